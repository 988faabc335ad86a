"""Tiled ``logsumexp`` by rows and columns in one pass; the backward recomputes the tiles."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from hardneg.ops.comparison import Comparison
from hardneg.ops.energies import Linear
from hardneg.ops.grid import Tile, grid, summed_tile
from hardneg.ops.requests import EVERYTHING, ExponentialTerms, Wanted
from hardneg.ops.scores import LogSumExp
from hardneg.ops.tiled.admission import Admission, excluded_value
from hardneg.ops.tiled.scores import TileScores, tile_scores

if TYPE_CHECKING:
    from jaxtyping import Float

__all__ = ["logsumexp", "logsumexp_backward"]


class Logits:
    """The exponents of a tile: scale * energy(score), the left-out ones marked."""

    def __init__(
        self,
        comparison: Comparison,
        terms: ExponentialTerms,
        tile: tuple[int, int] | None,
        wanted: Wanted = EVERYTHING,
    ) -> None:
        self.n, self.m = len(comparison.queries), len(comparison.candidates)
        tile = tile or summed_tile(self.n, self.m, comparison.queries.device)
        self.tiles: TileScores = tile_scores(comparison, tile, wanted)
        self.buffers = self.tiles.buffers
        self.admission = Admission(comparison.relation, terms.among, self.buffers)
        self.energy, self.scale, self.window = terms.energy, terms.scale, terms.window
        self.excluded = -excluded_value(self.buffers.dtype)

    def of(self, tile: Tile) -> tuple[Tensor, Tensor, Tensor]:
        """Raw scores, the exponents for rows and those for columns; one buffer where nothing tells them apart."""
        scores = self.tiles.scores(tile)
        logits = self.buffers.get("logits", tile)
        plain = scores if self.energy == Linear() else self.energy.value(scores)
        if self.scale is None:
            logits.copy_(plain)
        else:
            torch.mul(plain, self.scale, out=logits)
        self.admission.fill(logits, tile, self.excluded)
        if self.window.open:
            return scores, logits, logits
        columns = self.buffers.get("column_logits", tile).copy_(logits)
        window = self.window
        self.bound(logits, scores, tile, window.row_floor, window.row_ceiling, True)
        self.bound(columns, scores, tile, window.column_floor, window.column_ceiling, False)
        return scores, logits, columns

    def bound(
        self,
        logits: Tensor,
        scores: Tensor,
        tile: Tile,
        floor: Tensor | None,
        ceiling: Tensor | None,
        of_rows: bool,
    ) -> None:
        """Mark what is outside the window, in place."""
        outside = self.buffers.get("flags", tile)
        for limit, compare in ((floor, torch.le), (ceiling, torch.ge)):
            if limit is not None:
                limits = limit[tile.rows, None] if of_rows else limit[None, tile.columns]
                logits.add_(compare(scores, limits, out=outside), alpha=self.excluded)


class Running:
    """A log-sum-exp that grows tile by tile: the largest exponent so far and the sum relative to it."""

    def __init__(self, n: int, logits: Logits) -> None:
        lowest = logits.excluded / 2
        self.largest = torch.full(
            (n,), lowest, dtype=logits.buffers.dtype, device=logits.buffers.device
        )
        self.sum = torch.zeros_like(self.largest)

    def take(self, z: Tensor, terms: Tensor, mine: slice, dim: int) -> None:
        """Add a tile; ``terms`` is scratch."""
        old = self.largest[mine]
        new = torch.maximum(old, z.amax(dim))
        total = torch.sub(z, new.unsqueeze(dim), out=terms).exp_().sum(dim)
        self.sum[mine] = self.sum[mine] * torch.exp(old - new) + total
        self.largest[mine] = new

    def result(self) -> Float[Tensor, "n"]:
        """The log-sum-exp, -inf where nothing was admitted."""
        return self.largest + self.sum.log()

    def maxima(self) -> Float[Tensor, "n"]:
        """The largest exponents, -inf where nothing was admitted."""
        return torch.where(self.sum > 0, self.largest, -math.inf)


def logsumexp(
    comparison: Comparison, terms: ExponentialTerms, tile: tuple[int, int] | None = None
) -> LogSumExp:
    """See ``reference.logsumexp``."""
    logits = Logits(comparison, terms, tile)
    of_rows = Running(logits.n if terms.rows else 0, logits)
    of_columns = Running(logits.m if terms.columns else 0, logits)
    for block in grid(logits.n, logits.m, logits.tiles.tile):
        if logits.admission.empty(block):
            continue
        _, row_logits, column_logits = logits.of(block)
        scratch = logits.buffers.get("terms", block)
        if terms.rows:
            of_rows.take(row_logits, scratch, block.rows, 1)
        if terms.columns:
            of_columns.take(column_logits, scratch, block.columns, 0)
    return LogSumExp(of_rows.result(), of_columns.result(), of_rows.maxima(), of_columns.maxima())


def logsumexp_backward(
    comparison: Comparison,
    terms: ExponentialTerms,
    results: tuple[Tensor, Tensor],
    upstream: tuple[Tensor | None, Tensor | None],
    tile: tuple[int, int] | None = None,
    wanted: Wanted = EVERYTHING,
) -> tuple[Tensor, Tensor, Float[Tensor, ""]]:
    """Gradients of queries, candidates and scale: the weight of a score is upstream * exp(logit - result)."""
    logits, energy = Logits(comparison, terms, tile, wanted), terms.energy
    known = [torch.where(r == -math.inf, -logits.excluded, r) for r in results]
    slope_of_scale = torch.zeros((), dtype=logits.buffers.dtype, device=logits.buffers.device)
    for block in grid(logits.n, logits.m, logits.tiles.tile):
        if logits.admission.empty(block):
            continue
        scores, row_logits, column_logits = logits.of(block)
        weights = softmax_weights(logits, block, (row_logits, column_logits), known, upstream)
        if terms.scale is not None:
            if wanted.scale:
                plain = energy.value(scores) if energy != Linear() else scores
                slope_of_scale += torch.dot(weights.view(-1), plain.reshape(-1))
            weights.mul_(terms.scale)
        if energy != Linear():
            weights.mul_(energy.slope(scores))
        if wanted.embeddings:
            logits.tiles.add_gradient(block, weights)
    return *logits.tiles.gradients(), slope_of_scale


def softmax_weights(
    logits: Logits,
    tile: Tile,
    exponents: tuple[Tensor, Tensor],
    results: list[Tensor],
    upstream: tuple[Tensor | None, Tensor | None],
) -> Float[Tensor, "r c"]:
    """Upstream gradient times softmax, rows and columns added."""
    total: Tensor | None = None
    for z, result, gradient, of_rows in zip(
        exponents, results, upstream, (True, False), strict=True
    ):
        if gradient is None:
            continue
        mine = (tile.rows, None) if of_rows else (None, tile.columns)
        weights = logits.buffers.get("terms" if total is None else "more_terms", tile)
        torch.sub(z, result[mine], out=weights).exp_().mul_(gradient[mine])
        total = weights if total is None else total.add_(weights)
    assert total is not None
    return total
