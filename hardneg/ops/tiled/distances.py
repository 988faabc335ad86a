"""Tiles of Euclidean distances: by a product of matrices, or by differences."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from hardneg.ops.comparison import Comparison, Embeddings
from hardneg.ops.geometry import central_row, near_rows, one_origin
from hardneg.ops.grid import Buffers, Tile
from hardneg.ops.requests import Wanted
from hardneg.ops.tiled.side_gradients import accumulators, finish_sides
from hardneg.similarities import SquaredEuclidean, upcast

if TYPE_CHECKING:
    from jaxtyping import Float

__all__ = ["DifferenceTiles", "DistanceTiles", "distance_tiles"]

FEW = 1 << 18
"""Up to so many differences of coordinates in all they take less time than getting ready for a product."""


class DistanceTiles:
    """Distances by a product of rows that are measured from a near origin (``NearRows``).

    The gradient of a distance pulls along ``candidate - query``: a product with the weights, less the
    query times the sum of its weights.
    """

    def __init__(
        self, comparison: Comparison | Embeddings, tile: tuple[int, int], wanted: Wanted
    ) -> None:
        self.squared = type(comparison.similarity) is SquaredEuclidean
        self.queries, self.candidates = comparison.queries, comparison.candidates
        c = upcast(self.candidates)
        centre = central_row(c)
        self.c = near_rows(c, centre)
        one_set = self.queries is self.candidates
        self.q = self.c if one_set else near_rows(upcast(self.queries), centre)
        self.one_origin = one_origin(self.q, self.c)
        self.wanted, self.tile = wanted, tile
        self.buffers = Buffers(tile, c.dtype, c.device)
        self.dq: Tensor | None = None
        self.dc: Tensor | None = None

    @cached_property
    def terms(self) -> tuple[Float[Tensor, "n 4"], Float[Tensor, "m 4"]]:
        """Terms of both sides, in the order in which they are multiplied."""
        return self.q.terms(), self.c.terms().roll(2, 1)

    @cached_property
    def origins(self) -> tuple[Tensor | None, Tensor | None]:
        """Which origin every row is measured from; None where that is known to be the same one."""
        return (None, None) if self.one_origin else (self.q.origins(), self.c.origins())

    @cached_property
    def sums(self) -> tuple[Tensor, Tensor]:
        """Sums of every row's weights over the others of either origin, or over all."""
        kinds = 1 if self.one_origin else 2
        q, c = self.q.rows, self.c.rows
        return q.new_zeros(len(q), kinds), c.new_zeros(len(c), kinds)

    def scores(self, tile: Tile) -> Float[Tensor, "r c"]:
        """A product of the two blocks, and the terms of their rows."""
        out, rows, columns = self.buffers.get("scores", tile), tile.rows, tile.columns
        q, c = self.q.rows[rows], self.c.rows[columns]
        if self.one_origin:
            torch.addmm(self.c.squares[columns], q, c.T, beta=-1, alpha=2, out=out)
            out.sub_(self.q.squares[rows, None])
        else:
            of_queries, of_candidates = self.terms
            torch.mm(q, c.T, out=out)
            out.addmm_(of_queries[rows], of_candidates[columns].T, beta=2)
        out.clamp_(max=0)
        if self.squared:
            return out
        distances = self.buffers.get("distances", tile)
        torch.neg(out, out=distances).sqrt_()
        return torch.neg(distances, out=out)

    def recall(self, tile: Tile, scores: Float[Tensor, "r c"]) -> None:
        """Take scores computed earlier as those last asked for."""
        if not self.squared:
            torch.neg(scores, out=self.buffers.get("distances", tile))

    def add_gradient(self, tile: Tile, weights: Float[Tensor, "r c"]) -> None:
        """Two products with the weights, and their sums over the others of either origin."""
        if self.dq is None and self.dc is None:
            self.dq, self.dc = accumulators(self.q.rows, self.c.rows, self.wanted)
        if self.squared:
            weights.mul_(2)
        else:
            distances = self.buffers.get("distances", tile)
            weights.div_(distances).masked_fill_(distances == 0, 0.0)
        if self.dq is not None:
            self.dq[tile.rows].addmm_(weights, self.c.rows[tile.columns])
            add_sums(self.sums[0][tile.rows], weights, self.origins[1], tile.columns)
        if self.dc is not None:
            self.dc[tile.columns].addmm_(weights.T, self.q.rows[tile.rows])
            add_sums(self.sums[1][tile.columns], weights.T, self.origins[0], tile.rows)

    def gradients(self) -> tuple[Tensor, Tensor]:
        """The sums of the pulls."""
        for gradient, side, sums in zip(
            (self.dq, self.dc), (self.q, self.c), self.sums, strict=True
        ):
            if gradient is not None:
                side.pulled(gradient, sums)
        return finish_sides(self)


def add_sums(
    total: Float[Tensor, "r o"],
    weights: Float[Tensor, "r c"],
    origins: Float[Tensor, "m 2"] | None,
    others: slice,
) -> None:
    """Add the sums of every row's weights over the others of either origin, or over all where they have one."""
    if origins is None:
        total += weights.sum(1, keepdim=True)
    else:
        total.addmm_(weights, origins[others])


class DifferenceTiles:
    """Distances and their gradients by differences: in float64, and of few rows."""

    def __init__(
        self, comparison: Comparison | Embeddings, tile: tuple[int, int], wanted: Wanted
    ) -> None:
        self.squared = type(comparison.similarity) is SquaredEuclidean
        self.queries, self.candidates = comparison.queries, comparison.candidates
        self.q = upcast(self.queries).contiguous()
        self.c = upcast(self.candidates).contiguous()
        self.wanted, self.tile = wanted, tile
        self.buffers = Buffers(tile, self.q.dtype, self.q.device)
        self.dq: Tensor | None = None
        self.dc: Tensor | None = None

    def scores(self, tile: Tile) -> Float[Tensor, "r c"]:
        """``-torch.cdist(queries, candidates)``, or minus its square; that of few integers is exact."""
        q, c = self.q[tile.rows], self.c[tile.columns]
        out, distances = self.buffers.get("scores", tile), self.buffers.get("distances", tile)
        if self.squared and out.numel() * q.shape[1] <= FEW:
            torch.sum(torch.sub(q[:, None], c).square_(), 2, out=out)
            torch.sqrt(out, out=distances)
            return out.neg_()
        distances.copy_(torch.cdist(q, c, compute_mode="donot_use_mm_for_euclid_dist"))
        torch.neg(distances, out=out)
        return out.mul_(distances) if self.squared else out

    def recall(self, tile: Tile, scores: Float[Tensor, "r c"]) -> None:
        """Take scores computed earlier as those last asked for."""
        distances = torch.neg(scores, out=self.buffers.get("distances", tile))
        if self.squared:
            distances.sqrt_()

    def add_gradient(self, tile: Tile, weights: Float[Tensor, "r c"]) -> None:
        """The backward of ``torch.cdist``, which adds up differences, for each side that is not frozen."""
        if self.dq is None and self.dc is None:
            self.dq, self.dc = accumulators(self.q, self.c, self.wanted)
        q, c = self.q[tile.rows], self.c[tile.columns]
        distances = self.buffers.get("distances", tile)
        pulls = weights.mul_(distances).mul_(-2) if self.squared else weights.neg_()
        if self.dq is not None:
            self.dq[tile.rows] += pull_gradients(pulls, q, c, distances)
        if self.dc is not None:
            self.dc[tile.columns] += pull_gradients(pulls.T, c, q, distances.T)

    def gradients(self) -> tuple[Tensor, Tensor]:
        """The accumulated gradients."""
        return finish_sides(self)


def pull_gradients(
    weights: Float[Tensor, "r c"],
    x: Float[Tensor, "r d"],
    others: Float[Tensor, "c d"],
    distances: Float[Tensor, "r c"],
) -> Float[Tensor, "r d"]:
    """Sums of ``weights * (x - others) / distances``; nothing from pairs at distance 0."""
    backward = torch.ops.aten._cdist_backward
    found: Tensor = backward(weights.contiguous(), x, others, 2.0, distances.contiguous())
    return found


def distance_tiles(
    comparison: Comparison | Embeddings, tile: tuple[int, int], wanted: Wanted
) -> DistanceTiles | DifferenceTiles:
    """Differences where they are needed or few, else products."""
    (n, d), m = comparison.queries.shape, len(comparison.candidates)
    if comparison.queries.dtype == torch.float64 or n * m * d <= FEW:
        return DifferenceTiles(comparison, tile, wanted)
    return DistanceTiles(comparison, tile, wanted)
