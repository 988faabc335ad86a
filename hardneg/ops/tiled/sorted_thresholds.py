"""Hinges of every score under every threshold of its row, by sorting the thresholds.

Where a score falls among them says how many it exceeds; what the scores above a threshold add up to
follows from running totals of the scores, for the squared hinge of their squares too.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from hardneg.ops.tiled.admission import excluded_value

if TYPE_CHECKING:
    from jaxtyping import Float, Int

__all__ = ["by_search"]


def by_search(
    negatives: Float[Tensor, "r m"],
    thresholds: Float[Tensor, "r p"],
    ceilings: Float[Tensor, "r p"] | None,
    weights: Float[Tensor, "r p"] | None,
    pairs: tuple[Int[Tensor, "t"], Int[Tensor, "t"]],
    squared: bool,
) -> tuple[Tensor, Tensor, Tensor | None, Tensor | None]:
    """Pair sums, pair counts, and with weights the weight of every negative and the slope sum of every pair.

    ``pairs`` are the places of thresholds that are not padding.
    """
    scores, levels = centre(negatives, thresholds, pairs)
    found = Exceeded(scores, negatives, thresholds, levels, weights, squared, strict=True)
    if ceilings is not None:
        just_above = torch.nextafter(thresholds, negatives.new_tensor(math.inf))
        bounds = torch.maximum(ceilings, just_above)
        found.less(Exceeded(scores, negatives, bounds, levels, weights, squared, strict=False))
    sums, slopes = found.first - found.counts * levels, found.counts
    if squared:
        sums, slopes = (
            found.second - 2 * levels * found.first + found.counts * levels.square(),
            2 * sums,
        )
    kind = negatives.dtype
    total = None if found.weights is None else found.weights.to(kind)
    return sums.clamp(min=0).to(kind), found.counts.to(kind), total, slopes.clamp(min=0).to(kind)


def centre(
    negatives: Float[Tensor, "r m"],
    thresholds: Float[Tensor, "r p"],
    pairs: tuple[Int[Tensor, "t"], Int[Tensor, "t"]],
) -> tuple[Float[Tensor, "r m"], Float[Tensor, "r p"]]:
    """Scores and thresholds as float64, less the mean threshold of their row, so that squares cancel less.

    Padding is 0, and left-out scores are as low as their squares allow.
    """
    levels = torch.zeros_like(thresholds, dtype=torch.float64)
    levels[pairs] = thresholds[pairs].double()
    counts = torch.bincount(pairs[0], minlength=len(levels)).clamp(min=1)
    middle = (levels.sum(1) / counts)[:, None]
    levels[pairs] -= middle[pairs[0], 0]
    left_out = negatives <= -excluded_value(negatives.dtype) / 2
    return (negatives - middle).masked_fill_(left_out, 0.0), levels


class Exceeded:
    """What lies above each bound: how many scores of the row, their sum, their squares' sum; and of each score the
    weight of the bounds below it, as the slope of what exceeds the level of each.
    """

    def __init__(
        self,
        scores: Float[Tensor, "r m"],
        compared: Float[Tensor, "r m"],
        bounds: Float[Tensor, "r p"],
        levels: Float[Tensor, "r p"],
        weights: Float[Tensor, "r p"] | None,
        squared: bool,
        strict: bool,
    ) -> None:
        ordered, order = bounds.sort(dim=1)
        place = torch.searchsorted(ordered, compared, right=not strict)
        self.counts = above(torch.ones_like(scores), place, order)
        self.first = above(scores, place, order)
        self.second = above(scores.square(), place, order) if squared else self.first
        self.weights: Tensor | None = None
        if weights is not None:
            of_bounds = weights.double() if squared else weights
            self.weights = below(of_bounds, place, order)
            if squared:
                pulled = below(of_bounds * levels, place, order)
                self.weights = self.weights.mul_(scores).sub_(pulled).mul_(2)

    def less(self, over: Exceeded) -> None:
        """Take away what lies above other bounds."""
        self.counts -= over.counts
        self.first = self.first - over.first
        self.second = self.second - over.second
        if self.weights is not None and over.weights is not None:
            self.weights -= over.weights


def above(
    values: Float[Tensor, "r m"], place: Int[Tensor, "r m"], order: Int[Tensor, "r p"]
) -> Float[Tensor, "r p"]:
    """Sum of the values whose place is behind each bound, in the bounds' own order."""
    bins = values.new_zeros(len(values), order.shape[1] + 1).scatter_add_(1, place, values)
    behind = bins[:, 1:].flip(1).cumsum(1).flip(1)
    return torch.empty_like(behind).scatter_(1, order, behind)


def below(
    values: Float[Tensor, "r p"], place: Int[Tensor, "r m"], order: Int[Tensor, "r p"]
) -> Float[Tensor, "r m"]:
    """Sum of the bounds' values before each place."""
    running = torch.nn.functional.pad(values.gather(1, order).cumsum(1), (1, 0))
    return running.gather(1, place)
