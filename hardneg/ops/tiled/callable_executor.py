"""The tiled executor for callable similarities, which no operator can name: the same code under autograd."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from hardneg.ceilings import Ceiling
from hardneg.energies import Energy
from hardneg.ops.dense import weighted_total
from hardneg.ops.description import Among, Comparison, Window
from hardneg.ops.executor import BatchAll, LogSumExp, Selected, Sums, Total
from hardneg.ops.tiled import logsumexp, pair_scores, penalty_sum, positives_penalty, relation
from hardneg.ops.tiled.select import select
from hardneg.ops.tiled.select_per_pair import select_per_pair
from hardneg.penalties import Penalty
from hardneg.selection import Selection

__all__ = ["CallableTiled"]


class Recomputed(torch.autograd.Function):
    """Runs a tiled reduction forward, and its gradient, by recomputed tiles, backward."""

    @staticmethod
    def forward(
        ctx: Any,
        run: Callable[..., tuple[Tensor, ...]],
        differentiate: Callable[..., tuple[Tensor | None, ...]],
        results: int,
        *tensors: Tensor | None,
    ) -> tuple[Tensor, ...]:
        """``run(*tensors)``, of which the first ``results`` have a gradient."""
        outputs = run(*tensors)
        ctx.mark_non_differentiable(*outputs[results:])
        ctx.save_for_backward(*tensors, *outputs)
        ctx.differentiate, ctx.inputs = differentiate, len(tensors)
        return outputs

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, *upstream: Tensor) -> Any:
        """``differentiate(tensors, outputs, upstream)``: one gradient for each tensor."""
        saved = ctx.saved_tensors
        tensors, outputs = saved[: ctx.inputs], saved[ctx.inputs :]
        return None, None, None, *ctx.differentiate(tensors, outputs, upstream)


@dataclass(frozen=True)
class CallableTiled:
    """Recomputed tiles of any callable (n x d, m x d) -> n x m, with autograd inside the tile.

    Attributes:
        tile: rows and columns of a tile; None for the device's default.
    """

    tile: tuple[int, int] | None = None

    @torch.no_grad()
    def select(
        self,
        comparison: Comparison,
        selection: Selection,
        among: Among = "negatives",
        window: Window = Window(),
        seed: Tensor | None = None,
        rows: bool = True,
        columns: bool = True,
        hardest: bool = False,
    ) -> Selected:
        """See ``Executor``."""
        sides = (rows, columns, hardest, self.tile)
        return Selected(*select(comparison, selection, among, window, seed, *sides))

    @torch.no_grad()
    def select_per_pair(
        self,
        comparison: Comparison,
        anchors: Tensor,
        ceilings: Tensor,
        selection: Selection,
        seed: Tensor | None = None,
    ) -> Tensor:
        """See ``Executor``."""
        return select_per_pair(comparison, anchors, ceilings, selection, seed)

    def pair_scores(self, comparison: Comparison, rows: Tensor, columns: Tensor) -> Tensor:
        """See ``Executor``."""
        pairs = rows.reshape(-1), columns.reshape(-1)

        def run(q: Tensor, c: Tensor) -> tuple[Tensor, ...]:
            return (pair_scores.pair_scores(comparison.similarity, q, c, *pairs),)

        def differentiate(tensors: Any, outputs: Any, upstream: Any) -> Any:
            given = (comparison.similarity, *tensors, *pairs, upstream[0])
            return pair_scores.pair_scores_backward(*given)

        embeddings = comparison.queries, comparison.candidates
        return Recomputed.apply(run, differentiate, 1, *embeddings)[0].view(rows.shape)

    def penalty_sum(
        self,
        comparison: Comparison,
        penalty: Penalty,
        row_thresholds: Tensor | None,
        column_thresholds: Tensor | None,
        *,
        among: Among = "negatives",
        sign: float = 1.0,
        scale: Tensor | None = None,
        window: Window = Window(),
    ) -> Sums:
        """See ``Executor``."""

        def scan(given: tuple[Any, ...], *weights: Tensor | None) -> Any:
            q, c, rows, columns, factor = given
            compared = replace(comparison, queries=q, candidates=c)
            told = (penalty, rows, columns, among, sign, factor, window)
            return penalty_sum.penalty_pass(compared, *told, *weights, tile=self.tile)

        def run(*given: Any) -> tuple[Tensor, ...]:
            sums, _ = scan(given)
            counts, maxima = (sums.row_counts, sums.column_counts), (sums.row_maxima,)
            return sums.rows, sums.columns, *counts, *maxima, sums.column_maxima

        def differentiate(given: Any, outputs: Any, upstream: Any) -> Any:
            _, _, rows, columns, factor = given
            weights = (None if rows is None else upstream[0],)
            _, found = scan(given, *weights, None if columns is None else upstream[1])
            return (
                found.queries,
                found.candidates,
                None if rows is None else found.row_thresholds,
                None if columns is None else found.column_thresholds,
                None if factor is None else found.scale,
            )

        tensors = (row_thresholds, column_thresholds, scale)
        inputs = (comparison.queries, comparison.candidates, *tensors)
        return Sums(*Recomputed.apply(run, differentiate, 2, *inputs))

    def penalty_total(
        self,
        comparison: Comparison,
        penalty: Penalty,
        row_thresholds: Tensor | None,
        column_thresholds: Tensor | None,
        row_weights: Tensor | None,
        column_weights: Tensor | None,
        **options: Any,
    ) -> Total:
        """See ``Executor``."""
        thresholds = row_thresholds, column_thresholds
        sums = self.penalty_sum(comparison, penalty, *thresholds, **options)
        return weighted_total(sums, row_weights, column_weights)

    def positives_penalty(
        self,
        comparison: Comparison,
        penalty: Penalty,
        margin: float,
        ceiling: Ceiling | None = None,
        *,
        total: bool = False,
        per_pair: bool = False,
    ) -> BatchAll:
        """See ``Executor``."""

        def scan(q: Tensor, c: Tensor, weights: Tensor | None) -> Any:
            compared = replace(comparison, queries=q, candidates=c)
            options = (penalty, margin, ceiling, per_pair, weights, self.tile)
            return positives_penalty.positives_penalty(compared, *options)

        def run(q: Tensor, c: Tensor) -> tuple[Tensor, ...]:
            terms, _ = scan(q, c, None)
            return terms.sums, terms.counts, terms.maxima, terms.positive_sums

        def differentiate(tensors: Any, outputs: Any, upstream: Any) -> Any:
            return scan(*tensors, upstream[0])[1]

        embeddings = comparison.queries, comparison.candidates
        found = BatchAll(*Recomputed.apply(run, differentiate, 1, *embeddings))
        return found._replace(sums=found.sums.sum()) if total else found

    def logsumexp(
        self,
        comparison: Comparison,
        energy: Energy,
        *,
        among: Among = "negatives",
        scale: Tensor | None = None,
        window: Window = Window(),
        rows: bool = True,
        columns: bool = True,
    ) -> LogSumExp:
        """See ``Executor``."""

        def run(q: Tensor, c: Tensor, factor: Tensor | None) -> tuple[Tensor, ...]:
            compared = replace(comparison, queries=q, candidates=c)
            options = (energy, among, factor, window, rows, columns, self.tile)
            return logsumexp.logsumexp(compared, *options)

        def differentiate(given: Any, outputs: Any, upstream: Any) -> Any:
            compared = replace(comparison, queries=given[0], candidates=given[1])
            wanted = (upstream[0] if rows else None, upstream[1] if columns else None)
            options = (energy, among, given[2], window, outputs[:2], wanted, self.tile)
            dq, dc, factor = logsumexp.logsumexp_backward(compared, *options)
            return dq, dc, None if given[2] is None else factor

        inputs = (comparison.queries, comparison.candidates, scale)
        return LogSumExp(*Recomputed.apply(run, differentiate, 2, *inputs))

    def admitted_counts(self, comparison: Comparison, among: str) -> tuple[Tensor, Tensor]:
        """See ``Executor``."""
        n, m = len(comparison.queries), len(comparison.candidates)
        device = comparison.queries.device
        return relation.admitted_counts(comparison.relation, among, n, m, device)

    def positive_pairs(self, comparison: Comparison) -> tuple[Tensor, Tensor]:
        """See ``Executor``."""
        n, m = len(comparison.queries), len(comparison.candidates)
        return relation.positive_pairs(comparison.relation, n, m, comparison.queries.device)
