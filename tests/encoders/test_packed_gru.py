"""The GRU of packed rows beside torch's own."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from hardneg.encoders import TextEncoder
from hardneg.encoders.packed_gru import gru_over_packed, pays

LENGTHS = {
    "mixed": [5, 1, 7, 3, 7],
    "all as long": [4, 4, 4],
    "one row": [6],
    "one step": [1, 1],
    "sorted": [6, 4, 2],
}


def both(rnn: nn.GRU, lengths: list[int], *, inputs_need: bool = True):
    """States, final states and gradients of torch's GRU and of ours, on the same rows."""
    rows = torch.randn(len(lengths), max(lengths), rnn.input_size, dtype=torch.float64)
    for run in (rnn, lambda packed: gru_over_packed(rnn, packed)):
        given = rows.clone().requires_grad_(inputs_need)
        packed = nn.utils.rnn.pack_padded_sequence(
            given, torch.tensor(lengths), batch_first=True, enforce_sorted=False
        )
        states, final = run(packed)
        padded = nn.utils.rnn.pad_packed_sequence(states, batch_first=True)[0]
        directions = 2 if rnn.bidirectional else 1
        rnn.zero_grad()
        (padded.sin().sum() + final[-directions:].square().sum()).backward()
        gradients = [one.grad for one in rnn.parameters()]
        yield padded, final[-directions:], given.grad, gradients


@pytest.mark.parametrize("bidirectional", [False, True], ids=["one way", "both ways"])
@pytest.mark.parametrize("layers", [1, 2])
@pytest.mark.parametrize("lengths", LENGTHS.values(), ids=LENGTHS)
def test_agrees_with_torch(lengths: list[int], layers: int, bidirectional: bool) -> None:
    torch.manual_seed(len(lengths) + layers)
    options = {"batch_first": True, "bidirectional": bidirectional, "dtype": torch.float64}
    expected, found = both(nn.GRU(4, 6, layers, **options), lengths)
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)


def test_frozen_inputs_and_weights_get_no_gradient() -> None:
    rnn = nn.GRU(3, 5, batch_first=True, dtype=torch.float64)
    rnn.weight_hh_l0.requires_grad_(False)
    expected, found = both(rnn, [3, 2, 5], inputs_need=False)
    assert found[2] is None
    assert found[3][1] is None
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)


def test_autocast_makes_products_in_its_type_alone() -> None:
    torch.manual_seed(0)
    rnn = nn.GRU(8, 16, batch_first=True)
    rows = torch.randn(6, 9, 8)
    packed = nn.utils.rnn.pack_padded_sequence(rows, torch.full((6,), 9), batch_first=True)
    exact = gru_over_packed(rnn, packed)[1]
    with torch.autocast("cpu", torch.bfloat16):
        rough = gru_over_packed(rnn, packed)[1]
    rough.sum().backward()
    assert rough.dtype == rnn.weight_hh_l0.grad.dtype == torch.float32
    assert 0 < (rough - exact).abs().max() < 0.02


def test_the_encoder_uses_it_where_it_trains_and_torch_elsewhere() -> None:
    encoder = TextEncoder(20, embed_dim=8, word_dim=4)
    words, lengths = torch.randint(1, 20, (5, 6)), torch.tensor([6, 2, 5, 1, 6])
    trained = encoder(words, lengths)
    inputs = encoder.embed(words)
    assert pays(encoder.rnn, inputs)
    assert "PackedGRU" in graph_of(trained)
    with torch.no_grad():
        assert not pays(encoder.rnn, inputs)
        torch.testing.assert_close(encoder(words, lengths), trained.detach())
    encoder.rnn.requires_grad_(False)
    assert "PackedGRU" not in graph_of(encoder(words, lengths))


def graph_of(tensor: torch.Tensor) -> set[str]:
    """The names of the functions that a tensor's gradient goes through."""
    seen, open_ones = set(), [tensor.grad_fn]
    while open_ones:
        node = open_ones.pop()
        if node is not None and node not in seen:
            seen.add(node)
            open_ones.extend(one for one, _ in node.next_functions)
    return {part for node in seen for part in node.name().removesuffix("Backward").split("::")}
