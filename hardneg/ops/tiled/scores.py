"""The scores of a tile and the gradients that flow back through it, for each kind of similarity.

``scores(tile)`` fills one buffer; ``add_gradient(tile, weights)`` adds what the upstream gradient
``weights`` of that tile gives to the gradients of queries and candidates; ``gradients()`` returns them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

import torch
from torch import Tensor

from hardneg.ops.description import Comparison
from hardneg.ops.requests import EVERYTHING, Wanted
from hardneg.ops.tiled.grid import Buffers, Tile, chunks, default_tile
from hardneg.ops.tiled.side_gradients import accumulators, finished
from hardneg.similarities import (
    Cosine,
    Dot,
    Euclidean,
    Order,
    SquaredEuclidean,
    scores_of,
    working,
)

if TYPE_CHECKING:
    from jaxtyping import Float

__all__ = ["TileScores", "project_out_length", "tile_scores", "unit_rows"]

ROWS_AT_ONCE = 1024
ORDER_ELEMENTS = 1 << 18


class TileScores(Protocol):
    """Scores and gradients of tiles."""

    tile: tuple[int, int]
    buffers: Buffers

    def scores(self, tile: Tile) -> Float[Tensor, "r c"]:
        """The scores of a tile, in a buffer that the next call overwrites."""

    def add_gradient(self, tile: Tile, weights: Float[Tensor, "r c"]) -> None:
        """Account for d(loss)/d(score) = weights on the tile last asked for; may overwrite the weights."""

    def gradients(self) -> tuple[Tensor, Tensor]:
        """Gradients of queries and candidates, in the inputs' type; that of a frozen side is empty."""


def unit_rows(x: Float[Tensor, "n d"]) -> tuple[Float[Tensor, "n d"], Float[Tensor, "n"]]:
    """Every row divided by its L2 norm, and 1 / norm; both are 0 for a zero row.

    Rows whose squares leave the range of floats are divided by their largest entry first. On a CPU
    that is done only where such rows exist; elsewhere asking would synchronise.
    """
    norm = torch.linalg.vector_norm(x, dim=1)
    info = torch.finfo(x.dtype)
    ordinary = (norm > info.tiny**0.5 * 1e3) & (norm < info.max**0.5 * 1e-3)
    if x.device.type == "cpu" and bool(ordinary.all()):
        inverse = 1 / norm
        return x * inverse[:, None], inverse
    largest = x.abs().amax(dim=1)
    nonzero = largest != 0
    scaled = x / torch.where(nonzero, largest, 1.0)[:, None]
    length = torch.where(nonzero, torch.linalg.vector_norm(scaled, dim=1), 1.0)
    inverse = torch.where(nonzero, 1 / length / largest, 0.0).clamp(max=info.max)
    return scaled / length[:, None], inverse


def project_out_length(
    gradient: Float[Tensor, "n d"], unit: Float[Tensor, "n d"], inverse: Float[Tensor, "n"]
) -> None:
    """Turn the gradient of normalised rows into that of the rows themselves, in place."""
    for rows in chunks(len(unit), ROWS_AT_ONCE):
        along = torch.linalg.vecdot(unit[rows], gradient[rows])
        gradient[rows].addcmul_(unit[rows], along[:, None], value=-1).mul_(inverse[rows, None])


def coarse_mean(x: Float[Tensor, "n d"]) -> Float[Tensor, "d"]:
    """The mean rounded to four bits of its largest entry: subtracting it leaves small integers exact."""
    mean = x.mean(dim=0)
    exponent = torch.frexp(mean.abs().amax()).exponent
    quantum = torch.ldexp(mean.new_ones(()), exponent - 4)
    return (mean / quantum).round() * quantum


class ProductTiles:
    """Similarities that follow from the inner product: dot, cosine and the Euclidean distances.

    The gradient of a distance pulls along ``candidate - query``: a product with the weights, less the
    query times the sum of its weights. In float32 a squared distance is |q|^2 + |c|^2 - 2 q.c of
    centred embeddings, so a distance far below their length is rounded; float64 takes differences.
    """

    def __init__(self, comparison: Comparison, tile: tuple[int, int], wanted: Wanted) -> None:
        self.similarity, self.wanted = comparison.similarity, wanted
        self.queries, self.candidates = comparison.queries, comparison.candidates
        self.cosine = isinstance(self.similarity, Cosine)
        self.distance = isinstance(self.similarity, Euclidean | SquaredEuclidean)
        q, c = working(self.queries), working(self.candidates)
        if self.cosine:
            (q, inverse_q), (c, inverse_c) = unit_rows(q), unit_rows(c)
            self.inverse = inverse_q, inverse_c
        if self.distance:
            if q.dtype != torch.float64:
                centre = coarse_mean(c)
                q, c = q - centre, c - centre
            self.squares = q.square().sum(1, keepdim=True), c.square().sum(1)[None]
            self.pulls = torch.zeros_like(q[:, :1]), torch.zeros_like(c[:, :1])
        self.q, self.c, self.tile = q, c, tile
        self.buffers = Buffers(tile, q.dtype, q.device)
        self.dq: Tensor | None = None
        self.dc: Tensor | None = None

    def scores(self, tile: Tile) -> Float[Tensor, "r c"]:
        """A product of the two blocks, turned into a distance where one is asked for."""
        out, q, c = self.buffers.get("scores", tile), self.q[tile.rows], self.c[tile.columns]
        if not self.distance:
            return torch.mm(q, c.T, out=out)
        squared = isinstance(self.similarity, SquaredEuclidean)
        if out.dtype == torch.float64:
            out.copy_(torch.cdist(q, c, compute_mode="donot_use_mm_for_euclid_dist"))
            if squared:
                out.square_()
        else:
            torch.mm(q, c.T, out=out).mul_(-2)
            out.add_(self.squares[0][tile.rows]).add_(self.squares[1][:, tile.columns])
            out.clamp_(min=0)
            if not squared:
                out.sqrt_()
        if not squared:
            self.buffers.get("distances", tile).copy_(out)
        return out.neg_()

    def add_gradient(self, tile: Tile, weights: Float[Tensor, "r c"]) -> None:
        """A product with the weights for each side that is not frozen."""
        if self.dq is None and self.dc is None:
            self.dq, self.dc = accumulators(self.q, self.c, self.wanted)
        if isinstance(self.similarity, Euclidean):
            distances = self.buffers.get("distances", tile)
            weights.div_(distances).masked_fill_(distances == 0, 0.0)
        elif self.distance:
            weights.mul_(2)
        if self.dq is not None:
            self.dq[tile.rows].addmm_(weights, self.c[tile.columns])
        if self.dc is not None:
            self.dc[tile.columns].addmm_(weights.T, self.q[tile.rows])
        if self.distance:
            self.pulls[0][tile.rows] += weights.sum(1, keepdim=True)
            self.pulls[1][tile.columns] += weights.sum(0)[:, None]

    def gradients(self) -> tuple[Tensor, Tensor]:
        """The sums of both products, taken back through the normalisation."""
        for side, (gradient, x) in enumerate(((self.dq, self.q), (self.dc, self.c))):
            if gradient is not None and self.distance:
                gradient.addcmul_(self.pulls[side], x, value=-1)
            if gradient is not None and self.cosine:
                project_out_length(gradient, x, self.inverse[side])
        return finished(self)


class OrderTiles:
    """Order violations: no product of matrices, but a sum over coordinates in pieces that fit the cache."""

    def __init__(self, comparison: Comparison, tile: tuple[int, int], wanted: Wanted) -> None:
        self.queries, self.candidates = comparison.queries, comparison.candidates
        self.wanted = wanted
        self.q = working(self.queries).contiguous()
        self.c = working(self.candidates).contiguous()
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
        return finished(self)


class CallableTiles:
    """Any callable similarity, with autograd inside the tile."""

    def __init__(self, comparison: Comparison, tile: tuple[int, int], wanted: Wanted) -> None:
        self.similarity, self.wanted = comparison.similarity, wanted
        self.queries, self.candidates = comparison.queries, comparison.candidates
        self.q, self.c, self.tile = working(self.queries), working(self.candidates), tile
        self.buffers = Buffers(tile, self.q.dtype, self.q.device)
        self.dq, self.dc = accumulators(self.q, self.c, wanted)

    def scores(self, tile: Tile) -> Float[Tensor, "r c"]:
        """The callable on the two blocks."""
        with torch.no_grad():
            found = scores_of(self.similarity, self.q[tile.rows], self.c[tile.columns])
        return self.buffers.get("scores", tile).copy_(found)

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
        return finished(self)


def tile_scores(
    comparison: Comparison, tile: tuple[int, int] | None = None, wanted: Wanted = EVERYTHING
) -> TileScores:
    """The fitting one of the three, with a tile of the given or the default size."""
    n, m = comparison.queries.shape[0], comparison.candidates.shape[0]
    size = tile or default_tile(n, m, comparison.queries.device)
    size = (min(size[0], n), min(size[1], m))
    if isinstance(comparison.similarity, Order):
        return OrderTiles(comparison, size, wanted)
    if isinstance(comparison.similarity, Cosine | Dot | Euclidean | SquaredEuclidean):
        return ProductTiles(comparison, size, wanted)
    return CallableTiles(comparison, size, wanted)
