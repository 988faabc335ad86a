"""Several encoders as one."""

import pytest
import torch

from hardneg.encoders import BagEncoder, FeatureEncoder, Members


def test_scores_are_the_mean_of_the_members() -> None:
    images = Members([FeatureEncoder(6, 4), FeatureEncoder(6, 4), FeatureEncoder(6, 4)])
    texts = Members([BagEncoder(9, 4, 3), BagEncoder(9, 4, 3), BagEncoder(9, 4, 3)])
    features, words = torch.rand(5, 6), torch.randint(1, 9, (7, 3))
    lengths = torch.full((7,), 3)
    together, said = images(features), texts(words, lengths)
    assert together.shape == (5, images.embed_dim) == (5, 12)
    torch.testing.assert_close(together.norm(dim=1), torch.ones(5))
    each = [
        image(features) @ text(words, lengths).T
        for image, text in zip(images.encoders, texts.encoders, strict=True)
    ]
    torch.testing.assert_close(together @ said.T, torch.stack(each).mean(0))
    apart = Members.apart(together, 3)
    for one, encoder in zip(apart, images.encoders, strict=True):
        torch.testing.assert_close(one, encoder(features))


def test_refusals() -> None:
    with pytest.raises(ValueError, match="encoders is empty"):
        Members([])
    with pytest.raises(ValueError, match="10 wide: expected a multiple of 3 members"):
        Members.apart(torch.rand(2, 10), 3)
