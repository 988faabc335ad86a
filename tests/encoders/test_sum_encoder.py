"""Several text towers as one."""

import pytest
import torch
from torch.nn.functional import normalize

from hardneg.encoders import BagEncoder, ResidualMLP, SumEncoder, TextEncoder
from hardneg.image_text.towers import TowerConfig, text_tower

WORDS = torch.tensor([[1, 5, 7, 2], [1, 2, 0, 0], [1, 9, 2, 0]])
LENGTHS = torch.tensor([4, 2, 3])


@pytest.mark.parametrize("absolute", [False, True])
def test_the_sum_of_what_the_towers_make_then_normalised(absolute: bool) -> None:
    torch.manual_seed(0)
    bag = BagEncoder(12, 6, 4, normalize=False, head=ResidualMLP(6, 5))
    gru = TextEncoder(12, 6, 4, normalize=False, pooling="gpo", bidirectional=True)
    a, b = bag(WORDS, LENGTHS), gru(WORDS, LENGTHS)
    assert not torch.allclose(a.norm(dim=1), torch.ones(3))
    assert not torch.allclose(b.norm(dim=1), torch.ones(3))
    found = SumEncoder([bag, gru], absolute=absolute)(WORDS, LENGTHS)
    expected = normalize(a + b)
    torch.testing.assert_close(found, expected.abs() if absolute else expected)
    gradients = torch.autograd.grad(found[:, 0].sum(), [bag.fc.weight, gru.rnn.weight_hh_l0])
    assert all(one.abs().sum() > 0 for one in gradients)


def test_pooling_acts_on_the_recurrent_part() -> None:
    tower = text_tower(TowerConfig(embed_dim=6, word_dim=4, text="bow+bigru", pooling="max"), 12)
    bag, gru = tower.towers
    assert isinstance(bag, BagEncoder)
    assert gru.rnn.bidirectional
    assert type(gru.pool).__name__ == "MaxPool"


def test_towers_of_other_widths() -> None:
    with pytest.raises(ValueError, match=r"embed_dim are \[6, 7\]: expected one width"):
        SumEncoder([BagEncoder(12, 6, 4), BagEncoder(12, 7, 4)])
    with pytest.raises(ValueError, match="expected one width"):
        SumEncoder([])
