"""Pooling of a padded set or sequence of vectors into one vector.

Every pool is called as ``pool(states, lengths)`` with ``states: Float[Tensor, "n t d"]`` and
``lengths: Int[Tensor, "n"]`` (the valid steps of each row, at least 1), and gives ``n x d``.
What stands in the padding never matters.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from hardneg.encoders.padded_gru import gru_over_padded

if TYPE_CHECKING:
    from jaxtyping import Bool, Float, Int

__all__ = ["GeneralizedPool", "LastPool", "MaxPool", "MeanPool", "pooling_named"]


def valid_steps(states: Float[Tensor, "n t d"], lengths: Int[Tensor, " n"]) -> Bool[Tensor, "n t"]:
    """True where a step is not padding."""
    steps = torch.arange(states.shape[1], device=states.device)
    return steps < lengths.to(states.device).unsqueeze(1)


class MeanPool(nn.Module):
    """The mean of the valid steps: ``states[i, :lengths[i]].mean(0)``."""

    def forward(
        self, states: Float[Tensor, "n t d"], lengths: Int[Tensor, " n"]
    ) -> Float[Tensor, "n d"]:
        """Pool ``n x t x d`` states into ``n x d``."""
        valid = valid_steps(states, lengths).unsqueeze(2)
        total = states.masked_fill(~valid, 0.0).sum(1)
        return total / lengths.to(states).unsqueeze(1)


class MaxPool(nn.Module):
    """The elementwise maximum of the valid steps: ``states[i, :lengths[i]].amax(0)``."""

    def forward(
        self, states: Float[Tensor, "n t d"], lengths: Int[Tensor, " n"]
    ) -> Float[Tensor, "n d"]:
        """Pool ``n x t x d`` states into ``n x d``."""
        valid = valid_steps(states, lengths).unsqueeze(2)
        return states.masked_fill(~valid, -math.inf).amax(1)


class LastPool(nn.Module):
    """The last valid step: ``states[i, lengths[i] - 1]`` (VSE++, section 3.1)."""

    def forward(
        self, states: Float[Tensor, "n t d"], lengths: Int[Tensor, " n"]
    ) -> Float[Tensor, "n d"]:
        """Pool ``n x t x d`` states into ``n x d``."""
        last = (lengths.to(states.device) - 1).reshape(-1, 1, 1).expand(-1, 1, states.shape[2])
        return states.gather(1, last).squeeze(1)


class GeneralizedPool(nn.Module):
    """Learned weights over the sorted values of each dimension (GPO).

    ``(weights[i] * states[i, :lengths[i]].sort(0, descending=True).values).sum(0)``, where the
    weights depend on the length alone: a BiGRU reads sinusoidal codes of the positions and a
    softmax over the valid positions follows. Mean and max are two of the poolings it can become.

    Source: Chen et al., "Learning the Best Pooling Strategy for Visual Semantic Embedding", CVPR
        2021.
    """

    def __init__(self, code_dim: int = 32, hidden_dim: int = 32, temperature: float = 0.1) -> None:
        super().__init__()
        if code_dim < 2 or code_dim % 2:
            raise ValueError(f"code_dim is {code_dim}: sine and cosine pairs need an even number")
        self.code_dim, self.temperature = code_dim, temperature
        self.rnn = nn.GRU(code_dim, hidden_dim, batch_first=True, bidirectional=True)
        self.score = nn.Linear(hidden_dim, 1, bias=False)

    def forward(
        self, states: Float[Tensor, "n t d"], lengths: Int[Tensor, " n"]
    ) -> Float[Tensor, "n d"]:
        """Pool ``n x t x d`` states into ``n x d``."""
        valid = valid_steps(states, lengths).unsqueeze(2)
        ordered = states.masked_fill(~valid, -math.inf).sort(dim=1, descending=True).values
        ordered = ordered.masked_fill(~valid, 0.0)
        return (self.weights(lengths, states) * ordered).sum(1)

    def weights(
        self, lengths: Int[Tensor, " n"], states: Float[Tensor, "n t d"]
    ) -> Float[Tensor, "n t 1"]:
        """The weight of each rank; every row sums to 1 over its valid ranks."""
        n, steps, _ = states.shape
        codes = position_codes(steps, self.code_dim).to(states).expand(n, -1, -1)
        if torch.compiler.is_exporting():
            hidden, _ = gru_over_padded(self.rnn, codes, lengths)
        else:
            packed = nn.utils.rnn.pack_padded_sequence(
                codes, lengths.cpu(), batch_first=True, enforce_sorted=False
            )
            hidden, _ = nn.utils.rnn.pad_packed_sequence(
                self.rnn(packed)[0], batch_first=True, total_length=steps
            )
        forwards, backwards = hidden.chunk(2, dim=2)
        scores = self.score((forwards + backwards) / 2) / self.temperature
        valid = valid_steps(states, lengths).unsqueeze(2)
        found: Tensor = scores.masked_fill(~valid, -math.inf).softmax(dim=1)
        return found


def position_codes(steps: int, width: int) -> Float[Tensor, "t w"]:
    """Sinusoidal codes of the positions 0 .. steps - 1, sines and cosines alternating."""
    frequency = torch.exp(torch.arange(0, width, 2) * (-math.log(10_000.0) / width))
    angle = torch.arange(steps).unsqueeze(1) * frequency
    return torch.stack([angle.sin(), angle.cos()], dim=2).flatten(1)


POOLS: dict[str, Callable[[], nn.Module]] = {
    "mean": MeanPool,
    "max": MaxPool,
    "last": LastPool,
    "gpo": GeneralizedPool,
}


def pooling_named(pooling: str | nn.Module) -> nn.Module:
    """The pool of that name, or the module itself if one is given."""
    if isinstance(pooling, nn.Module):
        return pooling
    if pooling not in POOLS:
        raise ValueError(f"unknown pooling {pooling!r}: choose one of {', '.join(POOLS)}")
    return POOLS[pooling]()
