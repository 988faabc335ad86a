"""A power of two that keeps float16 weights in range, from a bound on them; other types have the range of float32."""

from __future__ import annotations

import torch
from torch import Tensor

from hardneg.ops.requests import ExponentialTerms, PenaltyTerms
from hardneg.ops.triton.forms import ENERGIES, PENALTIES
from hardneg.ops.triton.lengths import squared_lengths
from hardneg.ops.triton.operands import Operands
from hardneg.similarities import Cosine, Dot, Euclidean, SquaredEuclidean

__all__ = ["energy_gain", "penalty_gain"]

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
    if type(ready.similarity) is Dot:
        return longest[0] * longest[1]
    distance = longest[0] + longest[1]
    return distance.square() if type(ready.similarity) is SquaredEuclidean else distance


def penalty_gain(
    ready: Operands, terms: PenaltyTerms, sides: list[tuple[Tensor, Tensor | None]]
) -> Tensor | None:
    """The gain of the weights of a penalty, from the thresholds and the weights of each side."""
    if not needs_gain(ready):
        return None
    score, bound = largest_score(ready), PENALTIES[type(terms.penalty)].bound
    weights = []
    for thresholds, weight in sides:
        if weight is None:
            continue
        largest = weight.abs().amax()
        if bound is not None:
            logit = score if terms.scale is None else score * size(terms.scale)
            largest = largest * bound(logit + thresholds.abs().amax())
        weights.append(largest)
    return gain_for(ready, weights, terms.scale, score)


def energy_gain(ready: Operands, terms: ExponentialTerms, upstream: list[Tensor]) -> Tensor | None:
    """The gain of the weights of exponentials, from the gradients of each side: a softmax is at most 1."""
    if not needs_gain(ready):
        return None
    score, bound = largest_score(ready), ENERGIES[type(terms.energy)].bound
    assert bound is not None
    weights = [bound(terms.energy, score) * gradient.abs().amax() for gradient in upstream]
    return gain_for(ready, weights, terms.scale, score)


def size(scale: Tensor) -> Tensor:
    """The magnitude of a scale."""
    return scale.abs().float().reshape(())


def gain_for(ready: Operands, weights: list[Tensor], scale: Tensor | None, score: Tensor) -> Tensor:
    """The power of two for weights of scores bounded by ``weights``, one bound a side."""
    bound = torch.stack(weights).sum()
    if scale is not None:
        bound = bound * size(scale)
    top = TOP
    if type(ready.similarity) is Cosine:
        assert ready.inverse is not None
        bound = bound * ready.inverse[0].amax() * ready.inverse[1].amax()
    elif type(ready.similarity) is Euclidean:
        bound, top = bound / score, TOP_OF_DISTANCES
    elif type(ready.similarity) is SquaredEuclidean:
        bound = bound * 2
    gain = torch.exp2(top - torch.ceil(torch.log2(bound)))
    return torch.where(torch.isfinite(gain) & (gain > 0), gain, 1.0)
