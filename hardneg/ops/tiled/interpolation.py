"""Sums of a logistic penalty at many thresholds, interpolated from its sums at a few.

``sum_n log(1 + exp(s_n - t))`` is analytic in t within pi of the real axis, wherever the scores s_n lie. So
Chebyshev interpolation over an interval of thresholds converges geometrically, and some 15 nodes (float64:
27) an interval of length 2 leave no more than rounding. The interpolation's transpose brings weights of
thresholds to the nodes, whose slopes then are the weights of the scores.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from hardneg.ops.precision import has_float64
from hardneg.ops.tiled.admission import excluded_value
from hardneg.ops.tiled.each_threshold import one_by_one
from hardneg.penalties import Logistic

if TYPE_CHECKING:
    from jaxtyping import Float, Int

__all__ = ["by_interpolation"]

LONGEST = 2.0
ANALYTIC = 0.8 * math.pi
"""Half the width of the strip in which the slope, which has poles at +-i pi, is bounded by 2."""
GROWTH = 1000.0
"""How many times its value at any threshold of an interval a sum may reach on the ellipse around it."""


def nodes_needed(half: float, accuracy: float) -> int:
    """Nodes an interval of this half length: the error is at most 4 x growth x rho ** (1 - nodes) / (rho - 1).

    Rho is the sum of the half axes of the largest ellipse that stays where the function is analytic, with the
    interval's ends as foci.
    """
    across = ANALYTIC / half
    rho = across + math.sqrt(across**2 + 1)
    return 1 + math.ceil(math.log(4 * GROWTH / (rho - 1) / accuracy) / math.log(rho))


class Interpolation:
    """Every row's thresholds in intervals of one length, with Chebyshev nodes in each.

    Args:
        levels: thresholds less the lowest of their row; 0 in the padding.
        half: half the length of an interval.
        intervals: how many a row has.
        count: nodes in each.
    """

    def __init__(
        self, levels: Float[Tensor, "r p"], half: float, intervals: int, count: int
    ) -> None:
        self.shape = len(levels), intervals, count
        self.half, self.which = half, (levels / (2 * half)).long().clamp_(max=intervals - 1)
        self.place = levels / half - 2 * self.which - 1
        numbers = torch.arange(count, dtype=levels.dtype, device=levels.device)
        angles = (numbers + 0.5) * (math.pi / count)
        self.points = angles.cos()
        self.transform = (numbers[:, None] * angles).cos() * (2 / count)
        self.transform[0] /= 2

    def nodes(self) -> Float[Tensor, "b k"]:
        """Where the sums are needed, less the lowest threshold of the row."""
        middles = torch.arange(self.shape[1], dtype=self.points.dtype, device=self.points.device)
        return (2 * middles[:, None] + 1 + self.points) * self.half

    def polynomials(self) -> Iterator[Tensor]:
        """Chebyshev polynomials of each threshold, by degree."""
        before, now = self.place, torch.ones_like(self.place)
        for _ in range(self.shape[2]):
            yield now
            before, now = now, 2 * self.place * now - before

    def at_thresholds(self, values: Float[Tensor, "r bk"]) -> Float[Tensor, "r p"]:
        """From values at the nodes to those at the thresholds."""
        coefficients = values.to(self.place.dtype).view(self.shape) @ self.transform.T
        found = torch.zeros_like(self.place)
        for degree, polynomial in enumerate(self.polynomials()):
            found.addcmul_(coefficients[:, :, degree].gather(1, self.which), polynomial)
        return found.to(values.dtype)

    def at_nodes(self, weights: Float[Tensor, "r p"]) -> Float[Tensor, "r bk"]:
        """From weights of the thresholds to those of the nodes: the transpose."""
        moments = self.place.new_zeros(self.shape)
        for degree, polynomial in enumerate(self.polynomials()):
            moments[:, :, degree].scatter_add_(1, self.which, polynomial * weights)
        return (moments @ self.transform).flatten(1).to(weights.dtype)


def interpolation(levels: Float[Tensor, "r p"], accuracy: float) -> Interpolation | None:
    """Nodes at most half as many as thresholds; None where that is too few."""
    reach = float(levels.max())
    if not reach < LONGEST * levels.shape[1]:
        return None
    intervals = max(1, math.ceil(reach / LONGEST))
    half = max(reach / 2 / intervals, 2.0**-10)
    count = nodes_needed(half, accuracy)
    if 2 * intervals * count > levels.shape[1]:
        return None
    return Interpolation(levels, half, intervals, count)


def by_interpolation(
    penalty: Logistic,
    negatives: Float[Tensor, "r m"],
    thresholds: Float[Tensor, "r p"],
    weights: Float[Tensor, "r p"] | None,
    pairs: tuple[Int[Tensor, "t"], Int[Tensor, "t"]],
) -> tuple[Tensor, Tensor, Tensor | None, Tensor | None] | None:
    """Pair sums, pair counts, and with weights the weight of every negative and the slope sum of every pair.

    ``pairs`` are the places of thresholds that are not padding. None where it takes too many nodes, where a
    term underflows, which the counts leave out, and for NaN.
    """
    lowest = thresholds.amin(dim=1)
    lowest = lowest.masked_fill(lowest >= excluded_value(lowest.dtype) / 2, 0.0)
    levels = torch.zeros_like(thresholds, dtype=widest(thresholds))
    levels[pairs] = (thresholds[pairs] - lowest[pairs[0]]).to(levels.dtype)
    found = interpolation(levels, torch.finfo(thresholds.dtype).eps)
    if found is None or underflows(negatives, levels.amax(dim=1) + lowest):
        return None
    nodes = (lowest[:, None] + found.nodes().flatten()).to(thresholds.dtype)
    of_nodes = None if weights is None else found.at_nodes(weights)
    sums, counts, total, slopes = one_by_one(penalty, negatives, nodes, None, of_nodes)
    padding = thresholds >= excluded_value(thresholds.dtype) / 2
    sums = found.at_thresholds(sums).masked_fill_(padding, 0.0)
    counts = counts[:, :1].expand_as(thresholds).masked_fill(padding, 0)
    slopes = None if slopes is None else found.at_thresholds(slopes)
    return sums, counts, total, slopes


def widest(x: Tensor) -> torch.dtype:
    """The type in which polynomials of many degrees lose nothing: float64 where the device has it."""
    return torch.float64 if has_float64(x.device) else x.dtype


def underflows(negatives: Float[Tensor, "r m"], highest: Float[Tensor, "r"]) -> bool:
    """Whether exp(score - threshold) is too small for an ordinary number at any row's highest threshold."""
    info = torch.finfo(negatives.dtype)
    taken = torch.where(negatives > -excluded_value(negatives.dtype) / 2, negatives, math.inf)
    return not bool((taken.amin(dim=1) - highest > math.log(info.tiny)).all())
