"""Cosine of few rows against many: the scores are divided by the lengths of the many, of which no copy is made."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from hardneg.ops.comparison import Comparison, Embeddings
from hardneg.ops.geometry import unit_rows
from hardneg.ops.grid import Buffers, Tile
from hardneg.ops.requests import Wanted
from hardneg.ops.tiled.side_gradients import accumulators, finish_sides, project_out_length
from hardneg.similarities import upcast

if TYPE_CHECKING:
    from jaxtyping import Float

__all__ = ["UnscaledTiles", "unscaled_tiles"]

MANY = 4
"""From how many times as many rows on one side is the many."""


class UnscaledTiles:
    """Unit rows on the side of the few, rows as they are on the side of the many."""

    def __init__(
        self,
        comparison: Comparison | Embeddings,
        tile: tuple[int, int],
        wanted: Wanted,
        inverse: Float[Tensor, "k"],
        many_rows: bool,
    ) -> None:
        self.queries, self.candidates = comparison.queries, comparison.candidates
        self.wanted, self.tile, self.many_rows = wanted, tile, many_rows
        self.q, self.c = upcast(self.queries), upcast(self.candidates)
        if many_rows:
            self.c, of_few = unit_rows(self.c)
            self.inverse = inverse, of_few
        else:
            self.q, of_few = unit_rows(self.q)
            self.inverse = of_few, inverse
        self.buffers = Buffers(tile, self.q.dtype, self.q.device)
        self.dq: Tensor | None = None
        self.dc: Tensor | None = None

    def factors(self, tile: Tile) -> Tensor:
        """1 / length of the many, to broadcast over a tile."""
        if self.many_rows:
            return self.inverse[0][tile.rows, None]
        return self.inverse[1][None, tile.columns]

    def scores(self, tile: Tile) -> Float[Tensor, "r c"]:
        """A product of the two blocks, divided by the lengths."""
        out = self.buffers.get("scores", tile)
        torch.mm(self.q[tile.rows], self.c[tile.columns].T, out=out)
        return out.mul_(self.factors(tile))

    def recall(self, tile: Tile, scores: Float[Tensor, "r c"]) -> None:
        """Nothing: the gradient needs no scores."""

    def add_gradient(self, tile: Tile, weights: Float[Tensor, "r c"]) -> None:
        """A product with the weights for each side that is not frozen; for the few they are divided by the lengths."""
        if self.dq is None and self.dc is None:
            self.dq, self.dc = accumulators(self.q, self.c, self.wanted)
        for of_rows in (self.many_rows, not self.many_rows):
            if of_rows and self.dq is not None:
                self.dq[tile.rows].addmm_(weights, self.c[tile.columns])
            if not of_rows and self.dc is not None:
                self.dc[tile.columns].addmm_(weights.T, self.q[tile.rows])
            if of_rows == self.many_rows:
                weights.mul_(self.factors(tile))

    def gradients(self) -> tuple[Tensor, Tensor]:
        """The sums of both products, taken back through the normalisation."""
        for side, (gradient, x) in enumerate(((self.dq, self.q), (self.dc, self.c))):
            if gradient is not None:
                scaled = self.many_rows == (side == 1)
                project_out_length(gradient, x, self.inverse[side], scaled)
        return finish_sides(self)


def unscaled_tiles(
    comparison: Comparison | Embeddings, tile: tuple[int, int], wanted: Wanted
) -> UnscaledTiles | None:
    """Such tiles where one side has many rows and the other fewer than coordinates; else None.

    On a CPU, and where no product of the many leaves the range: elsewhere asking would synchronise.
    """
    (n, width), m = comparison.queries.shape, len(comparison.candidates)
    if comparison.queries.device.type != "cpu" or min(n, m) * MANY > min(MANY * width, max(n, m)):
        return None
    many_rows = n > m
    many = upcast(comparison.queries if many_rows else comparison.candidates)
    lengths, info = torch.linalg.vector_norm(many, dim=1), torch.finfo(many.dtype)
    shortest, longest = torch.aminmax(lengths)
    if not (shortest > info.tiny**0.5 * 1e3 and longest < info.max**0.5 * 1e-3):
        return None
    return UnscaledTiles(comparison, tile, wanted, lengths.reciprocal_(), many_rows)
