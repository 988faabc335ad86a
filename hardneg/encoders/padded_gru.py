"""A GRU over padded rows without packing them, for ``torch.export``."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from jaxtyping import Float, Int

__all__ = ["gru_over_padded"]


def gru_over_padded(
    rnn: nn.GRU, inputs: Float[Tensor, "n t f"], lengths: Int[Tensor, " n"]
) -> tuple[Float[Tensor, "n t h"], Float[Tensor, "directions n d"]]:
    """The states of rows that are padded at the end, and the last layer's final state of each direction.

    The same as ``rnn`` over the packed rows but for states in the padding, which mean nothing. A row's own
    steps come first, so the padding changes none of them; backwards the row itself is turned round.
    """
    lengths = lengths.to(inputs.device)
    for layer in range(rnn.num_layers):
        states = [direction(rnn, f"l{layer}", inputs)]
        if rnn.bidirectional:
            backwards = direction(rnn, f"l{layer}_reverse", turned(inputs, lengths))
            states.append(turned(backwards, lengths))
        inputs = torch.cat(states, dim=2)
    last = (lengths - 1).reshape(-1, 1, 1).expand(-1, 1, states[0].shape[2])
    final = [states[0].gather(1, last).squeeze(1), *(one[:, 0] for one in states[1:])]
    return inputs, torch.stack(final)


def direction(rnn: nn.GRU, name: str, inputs: Float[Tensor, "n t f"]) -> Float[Tensor, "n t d"]:
    """One layer in one direction."""
    kinds = ("weight_ih", "weight_hh", *(("bias_ih", "bias_hh") if rnn.bias else ()))
    weights = [getattr(rnn, f"{kind}_{name}") for kind in kinds]
    start = inputs.new_zeros(1, inputs.shape[0], rnn.hidden_size)
    options = (rnn.bias, 1, 0.0, rnn.training, False, True)
    states: Tensor = torch.gru(inputs, start, weights, *options)[0]
    return states


def turned(rows: Float[Tensor, "n t f"], lengths: Int[Tensor, " n"]) -> Float[Tensor, "n t f"]:
    """Every row's own steps in reverse; the padding stays."""
    steps = torch.arange(rows.shape[1], device=rows.device).unsqueeze(0)
    mirrored = lengths.unsqueeze(1) - 1 - steps
    places = torch.where(mirrored >= 0, mirrored, steps).unsqueeze(2)
    return rows.gather(1, places.expand(-1, -1, rows.shape[2]))
