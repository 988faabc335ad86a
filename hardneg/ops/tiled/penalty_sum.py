"""Tiled ``penalty_sum``: sums of phi(sign * (scale * score - threshold)) by rows and columns, and their gradients.

One pass gives the sums; with the weight of every anchor at hand the same pass gives the gradients.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from hardneg.ops.comparison import Comparison
from hardneg.ops.grid import Tile, grid, summed_tile
from hardneg.ops.requests import EVERYTHING, UNWEIGHTED, PenaltyTerms, Wanted, Weights
from hardneg.ops.scores import PenaltyGradients, Sums
from hardneg.ops.tiled.admission import Admission, excluded_value
from hardneg.ops.tiled.scores import TileScores, tile_scores
from hardneg.penalties import Hinge, Identity, Penalty

if TYPE_CHECKING:
    from jaxtyping import Float

__all__ = ["apply_penalty", "penalty_pass"]


def apply_penalty(
    penalty: Penalty, x: Float[Tensor, "r c"], dim: int, with_slope: bool = True
) -> tuple[Tensor, Tensor, Float[Tensor, "r c"] | None]:
    """Sums of phi, counts of phi > 0, and the slope where it is asked for; overwrites x. Left-out entries give 0."""
    if type(penalty) is Hinge:
        sums = x.clamp_(min=0).sum(dim)
        exceeded = x.gt_(0)
        return sums, exceeded.sum(dim), exceeded
    if type(penalty) is Identity:
        inside = x > -excluded_value(x.dtype) / 2
        value = x.masked_fill_(~inside, 0.0)
        return value.sum(dim), (value > 0).sum(dim), inside.to(x.dtype)
    value, slope = penalty.value(x), penalty.slope(x) if with_slope else None
    # a sum of floats takes a tenth of the time of one of booleans
    return value.sum(dim), torch.gt(value, 0, out=x).sum(dim), slope


def largest(maxima: Float[Tensor, "n"]) -> Float[Tensor, "n"]:
    """Maxima with -inf where everything was left out."""
    return torch.where(maxima > -excluded_value(maxima.dtype) / 2, maxima, -math.inf)


class Side:
    """Rows or columns: their thresholds, window, weights, and what has been summed so far."""

    def __init__(
        self,
        thresholds: Tensor,
        floor: Tensor | None,
        ceiling: Tensor | None,
        weights: Tensor | None,
        of_rows: bool,
        with_maxima: bool,
    ) -> None:
        self.thresholds, self.floor, self.ceiling = thresholds, floor, ceiling
        self.weights, self.of_rows, self.with_maxima = weights, of_rows, with_maxima
        self.sums = torch.zeros_like(thresholds)
        self.slopes = torch.zeros_like(thresholds)
        self.counts = torch.zeros_like(thresholds, dtype=torch.long)
        self.maxima = torch.full_like(thresholds, -math.inf)

    def along(self, vector: Tensor, tile: Tile) -> Tensor:
        """The tile's part of a vector over the anchors, shaped to broadcast against the tile."""
        return vector[tile.rows, None] if self.of_rows else vector[None, tile.columns]

    def arguments(
        self, scores: Tensor, tile: Tile, tiles: TileScores, sign: float, scale: Tensor | None
    ) -> Float[Tensor, "r c"]:
        """sign * (scale * score - threshold), those outside the window marked."""
        x = tiles.buffers.get("row_terms" if self.of_rows else "column_terms", tile)
        thresholds = self.along(self.thresholds, tile)
        if scale is None:
            torch.sub(scores, thresholds, out=x)
        else:
            torch.mul(scores, scale, out=x).sub_(thresholds)
        if sign < 0:
            x.neg_()
        outside = tiles.buffers.get("flags", tile)
        for limit, compare in ((self.floor, torch.le), (self.ceiling, torch.ge)):
            if limit is not None:
                flags = compare(scores, self.along(limit, tile), out=outside)
                x.add_(flags, alpha=-excluded_value(x.dtype))
        return x

    def take(self, x: Tensor, tile: Tile, penalty: Penalty) -> Float[Tensor, "r c"] | None:
        """Add a tile's terms to the sums; returns the slope, where there are weights."""
        mine = tile.rows if self.of_rows else tile.columns
        dim = 1 if self.of_rows else 0
        if self.with_maxima:
            self.maxima[mine] = torch.maximum(self.maxima[mine], x.amax(dim))
        sums, counts, slope = apply_penalty(penalty, x, dim, self.weights is not None)
        self.sums[mine] += sums
        self.counts[mine] += counts.to(torch.long)
        if self.weights is not None and slope is not None:
            hinge = type(penalty) is Hinge
            self.slopes[mine] += counts if hinge else slope.sum(dim)
        return slope


def penalty_pass(
    comparison: Comparison,
    terms: PenaltyTerms,
    weights: Weights = UNWEIGHTED,
    tile: tuple[int, int] | None = None,
    wanted: Wanted = EVERYTHING,
) -> tuple[Sums, PenaltyGradients | None]:
    """The sums, and the gradients of ``weights[0] @ rows + weights[1] @ columns`` where weights are given."""
    n, m = len(comparison.queries), len(comparison.candidates)
    tile = tile or summed_tile(n, m, comparison.queries.device)
    tiles, window = tile_scores(comparison, tile, wanted), terms.window
    sides = []
    if terms.row_thresholds is not None:
        bounds = window.row_floor, window.row_ceiling
        sides.append(Side(terms.row_thresholds, *bounds, weights[0], True, terms.maxima))
    if terms.column_thresholds is not None:
        bounds = window.column_floor, window.column_ceiling
        sides.append(Side(terms.column_thresholds, *bounds, weights[1], False, terms.maxima))
    slope_of_scale = run(comparison, tiles, sides, terms, wanted)
    by_side = {side.of_rows: side for side in sides}
    none = tiles.buffers.get("scores", Tile(slice(0, 0), slice(0, 0))).new_zeros(0)
    rows, columns = by_side.get(True), by_side.get(False)
    both = rows, columns
    sums = Sums(
        *(none if side is None else side.sums for side in both),
        *(none.long() if side is None else side.counts for side in both),
        *(none if side is None else largest(side.maxima) for side in both),
    )
    if all(weight is None for weight in weights):
        return sums, None
    dq, dc = tiles.gradients()
    thresholds = [
        none if side is None or side.weights is None else -terms.sign * side.weights * side.slopes
        for side in (rows, columns)
    ]
    return sums, PenaltyGradients(dq, dc, slope_of_scale, thresholds[0], thresholds[1])


def run(
    comparison: Comparison,
    tiles: TileScores,
    sides: list[Side],
    terms: PenaltyTerms,
    wanted: Wanted,
) -> Float[Tensor, ""]:
    """The pass over the tiles; returns the gradient of the scale."""
    sign, scale = terms.sign, terms.scale
    admission = Admission(comparison.relation, terms.among, tiles.buffers)
    excluded = -excluded_value(tiles.buffers.dtype)
    slope_of_scale = torch.zeros((), dtype=tiles.buffers.dtype, device=tiles.buffers.device)
    for tile in grid(len(comparison.queries), len(comparison.candidates), tiles.tile):
        if admission.empty(tile):
            continue
        scores = tiles.scores(tile)
        total: Tensor | None = None
        for side in sides:
            x = side.arguments(scores, tile, tiles, sign, scale)
            slope = side.take(admission.fill(x, tile, excluded), tile, terms.penalty)
            if side.weights is not None and slope is not None:
                weights = side.along(side.weights, tile)
                slope = slope.mul_(weights) if slope.is_contiguous() else slope * weights
                total = slope if total is None else total.add_(slope)
        if total is None:
            continue
        if sign < 0:
            total.neg_()
        if scale is not None:
            if wanted.scale:
                slope_of_scale += torch.dot(total.view(-1), scores.reshape(-1))
            total.mul_(scale)
        if wanted.embeddings:
            tiles.add_gradient(tile, total)
    return slope_of_scale
