"""The tiled executor for callable similarities, which no operator can name: the same code under autograd."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from hardneg.ceilings import Ceiling
from hardneg.checks import check_tile
from hardneg.energies import Energy
from hardneg.ops.description import Among, Comparison, Window
from hardneg.ops.executor import NO_SECOND_DERIVATIVE, BatchAll, LogSumExp, Selected, Sums, Total
from hardneg.ops.tiled.logsumexp import logsumexp, logsumexp_backward
from hardneg.ops.tiled.pair_scores import pair_scores, pair_scores_backward
from hardneg.ops.tiled.penalty_sum import PenaltyGradients, PenaltySums, penalty_pass
from hardneg.ops.tiled.positives_penalty import PairTerms, positives_penalty
from hardneg.ops.tiled.relation import admitted_counts, positive_pairs
from hardneg.ops.tiled.select import select
from hardneg.ops.tiled.select_per_pair import select_per_pair
from hardneg.ops.whole_matrix import weighted_total
from hardneg.penalties import Penalty
from hardneg.selection import Selection

__all__ = ["CallableTiled"]

Saved = tuple[Any, ...]
"""Tensors, or None in place of one that was not given."""


class Recomputed(torch.autograd.Function):
    """Runs a tiled reduction forward, and its gradient, by recomputed tiles, backward."""

    @staticmethod
    def forward(
        ctx: Any,
        run: Callable[..., tuple[Tensor, ...]],
        differentiate: Callable[[Saved, Saved, Saved], tuple[Tensor | None, ...]],
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
    def backward(ctx: Any, *upstream: Tensor) -> Any:
        """``differentiate(tensors, outputs, upstream)``: one gradient for each tensor."""
        if torch.is_grad_enabled():
            raise RuntimeError(NO_SECOND_DERIVATIVE)
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

    def __post_init__(self) -> None:
        check_tile(self.tile)

    @torch.no_grad()
    def select(
        self,
        comparison: Comparison,
        selection: Selection,
        among: Among = "negatives",
        window: Window | None = None,
        seed: Tensor | None = None,
        rows: bool = True,
        columns: bool = True,
        hardest: bool = False,
    ) -> Selected:
        """See ``Executor``."""
        return Selected(
            *select(
                comparison,
                selection,
                among,
                window or Window(),
                seed,
                rows,
                columns,
                hardest,
                self.tile,
            )
        )

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
        similarity, r, c = comparison.similarity, rows.reshape(-1), columns.reshape(-1)

        def run(queries: Tensor, candidates: Tensor) -> tuple[Tensor]:
            return (pair_scores(similarity, queries, candidates, r, c),)

        def differentiate(given: Saved, results: Saved, upstream: Saved) -> tuple[Tensor, Tensor]:
            return pair_scores_backward(similarity, given[0], given[1], r, c, upstream[0])

        found = Recomputed.apply(run, differentiate, 1, comparison.queries, comparison.candidates)
        return found[0].view(rows.shape)

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
        window: Window | None = None,
    ) -> Sums:
        """See ``Executor``."""

        def scan(
            given: Saved, row_weights: Tensor | None = None, column_weights: Tensor | None = None
        ) -> tuple[PenaltySums, PenaltyGradients | None]:
            queries, candidates, rows, columns, factor = given
            return penalty_pass(
                replace(comparison, queries=queries, candidates=candidates),
                penalty,
                rows,
                columns,
                among,
                sign,
                factor,
                window or Window(),
                row_weights,
                column_weights,
                self.tile,
            )

        def run(*given: Tensor | None) -> tuple[Tensor, ...]:
            sums, _ = scan(given)
            return (
                sums.rows,
                sums.columns,
                sums.row_counts,
                sums.column_counts,
                sums.row_maxima,
                sums.column_maxima,
            )

        def differentiate(
            given: Saved, results: Saved, upstream: Saved
        ) -> tuple[Tensor | None, ...]:
            _, _, rows, columns, factor = given
            _, found = scan(
                given,
                None if rows is None else upstream[0],
                None if columns is None else upstream[1],
            )
            assert found is not None
            return (
                found.queries,
                found.candidates,
                None if rows is None else found.row_thresholds,
                None if columns is None else found.column_thresholds,
                None if factor is None else found.scale,
            )

        found = Recomputed.apply(
            run,
            differentiate,
            2,
            comparison.queries,
            comparison.candidates,
            row_thresholds,
            column_thresholds,
            scale,
        )
        return Sums(*found)

    def penalty_total(
        self,
        comparison: Comparison,
        penalty: Penalty,
        row_thresholds: Tensor | None,
        column_thresholds: Tensor | None,
        row_weights: Tensor | None,
        column_weights: Tensor | None,
        *,
        among: Among = "negatives",
        sign: float = 1.0,
        scale: Tensor | None = None,
    ) -> Total:
        """See ``Executor``."""
        sums = self.penalty_sum(
            comparison,
            penalty,
            row_thresholds,
            column_thresholds,
            among=among,
            sign=sign,
            scale=scale,
        )
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

        def scan(
            queries: Tensor, candidates: Tensor, weights: Tensor | None
        ) -> tuple[PairTerms, tuple[Tensor, Tensor] | None]:
            compared = replace(comparison, queries=queries, candidates=candidates)
            return positives_penalty(
                compared, penalty, margin, ceiling, per_pair, weights, self.tile
            )

        def run(queries: Tensor, candidates: Tensor) -> tuple[Tensor, ...]:
            terms, _ = scan(queries, candidates, None)
            return terms.all()

        def differentiate(given: Saved, results: Saved, upstream: Saved) -> tuple[Tensor, Tensor]:
            _, gradients = scan(given[0], given[1], upstream[0])
            assert gradients is not None
            return gradients

        found = BatchAll(
            *Recomputed.apply(run, differentiate, 1, comparison.queries, comparison.candidates)
        )
        return found._replace(sums=found.sums.sum()) if total else found

    def logsumexp(
        self,
        comparison: Comparison,
        energy: Energy,
        *,
        among: Among = "negatives",
        scale: Tensor | None = None,
        window: Window | None = None,
        rows: bool = True,
        columns: bool = True,
    ) -> LogSumExp:
        """See ``Executor``."""

        bounds = window or Window()

        def run(queries: Tensor, candidates: Tensor, factor: Tensor | None) -> tuple[Tensor, ...]:
            compared = replace(comparison, queries=queries, candidates=candidates)
            return logsumexp(compared, energy, among, factor, bounds, rows, columns, self.tile)

        def differentiate(
            given: Saved, results: Saved, upstream: Saved
        ) -> tuple[Tensor, Tensor, Tensor | None]:
            queries, candidates, factor = given
            of_rows, of_columns, *_ = results
            dq, dc, slope = logsumexp_backward(
                replace(comparison, queries=queries, candidates=candidates),
                energy,
                among,
                factor,
                bounds,
                (of_rows, of_columns),
                (upstream[0] if rows else None, upstream[1] if columns else None),
                self.tile,
            )
            return dq, dc, None if factor is None else slope

        found = Recomputed.apply(
            run, differentiate, 2, comparison.queries, comparison.candidates, scale
        )
        return LogSumExp(*found)

    def admitted_counts(self, comparison: Comparison, among: Among) -> tuple[Tensor, Tensor]:
        """See ``Executor``."""
        n, m = len(comparison.queries), len(comparison.candidates)
        return admitted_counts(comparison.relation, among, n, m, comparison.queries.device)

    def positive_pairs(self, comparison: Comparison) -> tuple[Tensor, Tensor]:
        """See ``Executor``."""
        n, m = len(comparison.queries), len(comparison.candidates)
        return positive_pairs(comparison.relation, n, m, comparison.queries.device)
