"""A power of two that keeps float16 weights in range, from a bound on them; other types have the range of float32."""

from __future__ import annotations

import torch
from torch import Tensor

from hardneg.ops.energies import CircleNegative, CirclePositive, Energy
from hardneg.ops.triton.lengths import squared_lengths
from hardneg.ops.triton.operands import Operands
from hardneg.penalties import Penalty, SquaredHinge

__all__ = ["energy_slope_bound", "gain_for", "largest_score", "needs_gain", "penalty_slope_bound"]

TOP = 14
"""log2 of what the bound is scaled to: a factor 4 below the largest float16, 2**28 above the smallest normal one."""
TOP_OF_DISTANCES = 4
"""The same for distances, whose weights are divided by the distance: 2**12 below the longest one fits too."""


def needs_gain(ready: Operands) -> bool:
    """Whether weights are float16."""
    return ready.source == "product16" and ready.queries.dtype == torch.float16


def largest_score(ready: Operands) -> Tensor:
    """A bound on the magnitude of scores."""
    if ready.inverse is not None:
        return torch.ones((), device=ready.queries.device)
    longest = [squared_lengths(x).amax().sqrt() for x in (ready.queries, ready.candidates)]
    if ready.similarity == "dot":
        return longest[0] * longest[1]
    distance = longest[0] + longest[1]
    return distance.square() if ready.similarity == "squared_euclidean" else distance


def penalty_slope_bound(
    penalty: Penalty, scale: Tensor | None, thresholds: Tensor, score: Tensor
) -> Tensor:
    """A bound on phi'."""
    if not isinstance(penalty, SquaredHinge):
        return torch.ones_like(score)
    logit = score if scale is None else score * scale.abs().float().reshape(())
    return 2 * (logit + thresholds.abs().amax())


def energy_slope_bound(energy: Energy, score: Tensor) -> Tensor:
    """A bound on an energy's slope."""
    if isinstance(energy, CircleNegative | CirclePositive):
        return abs(energy.gamma) * (score + 1 + abs(energy.margin))
    return torch.full_like(score, abs(energy.factor))


def gain_for(ready: Operands, weights: list[Tensor], scale: Tensor | None, score: Tensor) -> Tensor:
    """The power of two for weights of scores bounded by ``weights``, one bound a side."""
    bound = torch.stack(weights).sum()
    if scale is not None:
        bound = bound * scale.abs().float().reshape(())
    top = TOP
    if ready.similarity == "cosine":
        assert ready.inverse is not None
        bound = bound * ready.inverse[0].amax() * ready.inverse[1].amax()
    elif ready.similarity == "euclidean":
        bound, top = bound / score, TOP_OF_DISTANCES
    elif ready.similarity == "squared_euclidean":
        bound = bound * 2
    gain = torch.exp2(top - torch.ceil(torch.log2(bound)))
    return torch.where(torch.isfinite(gain) & (gain > 0), gain, 1.0)
