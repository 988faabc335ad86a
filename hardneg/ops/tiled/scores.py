"""The scores of a tile and the gradients that flow back through it, for each kind of similarity.

``scores(tile)`` fills one buffer; ``add_gradient(tile, weights)`` adds what the upstream gradient
``weights`` of that tile gives to the gradients of queries and candidates; ``gradients()`` returns them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

import torch
from torch import Tensor

from hardneg.ops.comparison import Comparison, Embeddings
from hardneg.ops.geometry import unit_rows
from hardneg.ops.grid import Buffers, Tile, chunks, default_tile
from hardneg.ops.requests import EVERYTHING, Wanted
from hardneg.ops.tiled.distances import distance_tiles
from hardneg.ops.tiled.side_gradients import accumulators, finish_sides, project_out_length
from hardneg.ops.tiled.unscaled import unscaled_tiles
from hardneg.similarities import (
    Cosine,
    Dot,
    Euclidean,
    Given,
    Order,
    SquaredEuclidean,
    score_dtype,
    scores_of,
    upcast,
)

if TYPE_CHECKING:
    from jaxtyping import Float

__all__ = ["TileScores", "tile_scores"]

ORDER_ELEMENTS = 1 << 18


class TileScores(Protocol):
    """Scores and gradients of tiles."""

    tile: tuple[int, int]
    buffers: Buffers

    def scores(self, tile: Tile) -> Float[Tensor, "r c"]:
        """The scores of a tile, in a buffer that the next call overwrites."""

    def recall(self, tile: Tile, scores: Float[Tensor, "r c"]) -> None:
        """Take scores computed earlier as those last asked for; they stay what they are."""

    def add_gradient(self, tile: Tile, weights: Float[Tensor, "r c"]) -> None:
        """Account for d(loss)/d(score) = weights on the tile last asked for; may overwrite the weights."""

    def gradients(self) -> tuple[Tensor, Tensor]:
        """Gradients of queries and candidates, in the type of the scores; that of a frozen side is empty."""


class ProductTiles:
    """Similarities that are the inner product itself: dot, and cosine of normalised rows."""

    def __init__(
        self, comparison: Comparison | Embeddings, tile: tuple[int, int], wanted: Wanted
    ) -> None:
        self.queries, self.candidates = comparison.queries, comparison.candidates
        self.wanted, self.tile = wanted, tile
        self.cosine = type(comparison.similarity) is Cosine
        q, c = upcast(self.queries), upcast(self.candidates)
        if self.cosine:
            (q, inverse_q), (c, inverse_c) = unit_rows(q), unit_rows(c)
            self.inverse = inverse_q, inverse_c
        self.q, self.c = q, c
        self.buffers = Buffers(tile, q.dtype, q.device)
        self.dq: Tensor | None = None
        self.dc: Tensor | None = None

    def scores(self, tile: Tile) -> Float[Tensor, "r c"]:
        """A product of the two blocks."""
        out = self.buffers.get("scores", tile)
        return torch.mm(self.q[tile.rows], self.c[tile.columns].T, out=out)

    def recall(self, tile: Tile, scores: Float[Tensor, "r c"]) -> None:
        """Nothing: the gradient needs no scores."""

    def add_gradient(self, tile: Tile, weights: Float[Tensor, "r c"]) -> None:
        """A product with the weights for each side that is not frozen."""
        if self.dq is None and self.dc is None:
            self.dq, self.dc = accumulators(self.q, self.c, self.wanted)
        if self.dq is not None:
            self.dq[tile.rows].addmm_(weights, self.c[tile.columns])
        if self.dc is not None:
            self.dc[tile.columns].addmm_(weights.T, self.q[tile.rows])

    def gradients(self) -> tuple[Tensor, Tensor]:
        """The sums of both products, taken back through the normalisation."""
        if self.cosine:
            for side, (gradient, x) in enumerate(((self.dq, self.q), (self.dc, self.c))):
                if gradient is not None:
                    project_out_length(gradient, x, self.inverse[side])
        return finish_sides(self)


class OrderTiles:
    """Order violations: no product of matrices, but a sum over coordinates in pieces that fit the cache."""

    def __init__(
        self, comparison: Comparison | Embeddings, tile: tuple[int, int], wanted: Wanted
    ) -> None:
        self.queries, self.candidates = comparison.queries, comparison.candidates
        self.wanted = wanted
        self.q = upcast(self.queries).contiguous()
        self.c = upcast(self.candidates).contiguous()
        self.sign = 1.0 if comparison.similarity.general == "candidates" else -1.0
        self.tile, width = tile, self.q.shape[1]
        self.piece = max(1, ORDER_ELEMENTS // width)
        self.excess = torch.empty(self.piece, width, dtype=self.q.dtype, device=self.q.device)
        self.buffers = Buffers(tile, self.q.dtype, self.q.device)
        self.dq: Tensor | None = None
        self.dc: Tensor | None = None

    def violation(self, row: int, columns: slice) -> Float[Tensor, "c d"]:
        """The excess of the general side over the specific one."""
        out = self.excess[: columns.stop - columns.start]
        first, second = self.c[columns], self.q[row]
        if self.sign < 0:
            first, second = second, first
        return torch.sub(first, second, out=out).clamp_(min=0)

    def scores(self, tile: Tile) -> Float[Tensor, "r c"]:
        """Row by row, a piece of the columns at a time."""
        out = self.buffers.get("scores", tile)
        for row in range(tile.shape[0]):
            for part in chunks(tile.shape[1], self.piece):
                columns = slice(tile.columns.start + part.start, tile.columns.start + part.stop)
                excess = self.violation(tile.rows.start + row, columns)
                torch.linalg.vector_norm(excess, dim=1, out=out[row, part])
        self.buffers.get("distances", tile).copy_(out)
        return out.neg_()

    def recall(self, tile: Tile, scores: Float[Tensor, "r c"]) -> None:
        """Take scores computed earlier as those last asked for."""
        torch.neg(scores, out=self.buffers.get("distances", tile))

    def add_gradient(self, tile: Tile, weights: Float[Tensor, "r c"]) -> None:
        """The violation recomputed and weighted by weight / distance."""
        if self.dq is None and self.dc is None:
            self.dq, self.dc = accumulators(self.q, self.c, self.wanted)
        distances = self.buffers.get("distances", tile)
        weights.div_(distances).masked_fill_(distances == 0, 0.0)
        for row in range(tile.shape[0]):
            for part in chunks(tile.shape[1], self.piece):
                columns = slice(tile.columns.start + part.start, tile.columns.start + part.stop)
                excess = self.violation(tile.rows.start + row, columns)
                share = weights[row, part] * self.sign
                if self.dq is not None:
                    self.dq[tile.rows.start + row].add_(share @ excess)
                if self.dc is not None:
                    self.dc[columns].addcmul_(excess, share[:, None], value=-1)

    def gradients(self) -> tuple[Tensor, Tensor]:
        """The accumulated gradients."""
        return finish_sides(self)


class CallableTiles:
    """Any callable similarity, with autograd inside the tile."""

    def __init__(
        self, comparison: Comparison | Embeddings, tile: tuple[int, int], wanted: Wanted
    ) -> None:
        self.similarity, self.wanted = comparison.similarity, wanted
        self.queries, self.candidates = comparison.queries, comparison.candidates
        self.q, self.c, self.tile = upcast(self.queries), upcast(self.candidates), tile
        self.buffers = Buffers(tile, self.q.dtype, self.q.device)
        self.dq, self.dc = accumulators(self.q, self.c, wanted)

    def scores(self, tile: Tile) -> Float[Tensor, "r c"]:
        """The callable on the two blocks."""
        with torch.no_grad():
            found = scores_of(self.similarity, self.q[tile.rows], self.c[tile.columns])
        return self.buffers.get("scores", tile).copy_(found)

    def recall(self, tile: Tile, scores: Float[Tensor, "r c"]) -> None:
        """Nothing: the callable is evaluated once more."""

    def add_gradient(self, tile: Tile, weights: Float[Tensor, "r c"]) -> None:
        """The callable once more, differentiated."""
        with torch.enable_grad():
            q = self.q[tile.rows].detach().requires_grad_(self.wanted.queries)
            c = self.c[tile.columns].detach().requires_grad_(self.wanted.candidates)
            sides = ((q, self.dq, tile.rows), (c, self.dc, tile.columns))
            learnt = [(x, total[mine]) for x, total, mine in sides if total is not None]
            leaves = [x for x, _ in learnt]
            found = torch.autograd.grad(scores_of(self.similarity, q, c), leaves, weights)
        for (_, total), gradient in zip(learnt, found, strict=True):
            total += gradient

    def gradients(self) -> tuple[Tensor, Tensor]:
        """The accumulated gradients."""
        return finish_sides(self)


class GivenTiles:
    """Parts of a matrix that the caller has."""

    def __init__(
        self, comparison: Comparison | Embeddings, tile: tuple[int, int], wanted: Wanted
    ) -> None:
        self.queries, self.candidates = comparison.queries, comparison.candidates
        self.wanted, self.tile = wanted, tile
        self.buffers = Buffers(tile, score_dtype(self.queries), self.queries.device)
        self.dq: Tensor | None = None
        self.dc: Tensor | None = None

    def scores(self, tile: Tile) -> Float[Tensor, "r c"]:
        """A copy, in the type of the scores."""
        return self.buffers.get("scores", tile).copy_(self.queries[tile.rows, tile.columns])

    def recall(self, tile: Tile, scores: Float[Tensor, "r c"]) -> None:
        """Nothing: the gradient needs no scores."""

    def add_gradient(self, tile: Tile, weights: Float[Tensor, "r c"]) -> None:
        """The weights themselves."""
        if self.dq is None and self.wanted.queries:
            self.dq = self.queries.new_zeros(self.queries.shape, dtype=weights.dtype)
        if self.dq is not None:
            self.dq[tile.rows, tile.columns].add_(weights)

    def gradients(self) -> tuple[Tensor, Tensor]:
        """The accumulated gradients."""
        return finish_sides(self)


def tile_scores(
    comparison: Comparison | Embeddings,
    tile: tuple[int, int] | None = None,
    wanted: Wanted = EVERYTHING,
) -> TileScores:
    """Tiles that fit the similarity, with a tile of the given or the default size."""
    n, m = comparison.queries.shape[0], comparison.candidates.shape[0]
    size = tile or default_tile(n, m, comparison.queries.device)
    size = (min(size[0], n), min(size[1], m))
    if type(comparison.similarity) is Order:
        return OrderTiles(comparison, size, wanted)
    if type(comparison.similarity) in (Euclidean, SquaredEuclidean):
        return distance_tiles(comparison, size, wanted)
    if type(comparison.similarity) is Cosine:
        return unscaled_tiles(comparison, size, wanted) or ProductTiles(comparison, size, wanted)
    if type(comparison.similarity) is Dot:
        return ProductTiles(comparison, size, wanted)
    if type(comparison.similarity) is Given:
        return GivenTiles(comparison, size, wanted)
    return CallableTiles(comparison, size, wanted)
