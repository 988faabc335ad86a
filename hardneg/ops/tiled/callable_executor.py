"""The tiled executor for callable similarities, which no operator can name: the same code under autograd."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from hardneg.ceilings import Ceiling
from hardneg.checks import check_tile
from hardneg.ops.description import Among, Comparison
from hardneg.ops.executor import (
    BatchAll,
    LogSumExp,
    Selected,
    SelectedSums,
    Sums,
    Total,
)
from hardneg.ops.requests import (
    EVERYTHING,
    ExponentialTerms,
    PenaltyTerms,
    Search,
    SelectedTerms,
    Wanted,
)
from hardneg.ops.rounding import Magnitudes
from hardneg.ops.tiled.logsumexp import logsumexp, logsumexp_backward
from hardneg.ops.tiled.pair_gradients import pair_scores_backward
from hardneg.ops.tiled.pair_scores import pair_scores
from hardneg.ops.tiled.penalty_sum import PenaltyGradients, Weights, penalty_pass
from hardneg.ops.tiled.positives_penalty import PairTerms, positives_penalty
from hardneg.ops.tiled.recomputed import Recomputed, Saved
from hardneg.ops.tiled.relation import admitted_counts, positive_pairs
from hardneg.ops.tiled.select import select
from hardneg.ops.tiled.select_per_pair import select_per_pair
from hardneg.ops.tiled.selected_penalty import selected_penalty
from hardneg.ops.whole_matrix import weighted_total
from hardneg.penalties import Penalty
from hardneg.selection import Selection

__all__ = ["CallableTiled"]


@dataclass(frozen=True)
class CallableTiled:
    """Recomputed tiles of any callable (n x d, m x d) -> n x m, with autograd inside the tile.

    Attributes:
        tile: rows and columns of a tile; None for the device's default.
    """

    tile: tuple[int, int] | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "tile", check_tile(self.tile))

    @torch.no_grad()
    def select(self, comparison: Comparison, search: Search) -> Selected:
        """See ``Executor``."""
        return select(comparison, search, self.tile)

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

        def differentiate(
            given: Saved, results: Saved, upstream: Saved, wanted: Wanted
        ) -> tuple[Tensor, Tensor]:
            return pair_scores_backward(similarity, given[0], given[1], r, c, upstream[0], wanted)

        found = Recomputed.apply(run, differentiate, 1, comparison.queries, comparison.candidates)
        return found[0].view(rows.shape)

    def magnitudes(self, comparison: Comparison, rows: Tensor, columns: Tensor) -> Tensor:
        """See ``Executor``."""
        return Magnitudes(comparison).of_pairs(rows, columns)

    def penalty_sum(self, comparison: Comparison, terms: PenaltyTerms) -> Sums:
        """See ``Executor``."""

        def scan(
            given: Saved, weights: Weights = (None, None), wanted: Wanted = EVERYTHING
        ) -> tuple[Sums, PenaltyGradients | None]:
            queries, candidates, rows, columns, scale = given
            return penalty_pass(
                replace(comparison, queries=queries, candidates=candidates),
                replace(terms, row_thresholds=rows, column_thresholds=columns, scale=scale),
                weights,
                self.tile,
                wanted,
            )

        def run(*given: Tensor | None) -> tuple[Tensor, ...]:
            return scan(given)[0]

        def differentiate(
            given: Saved, results: Saved, upstream: Saved, wanted: Wanted
        ) -> tuple[Tensor | None, ...]:
            _, _, rows, columns, scale = given
            of_rows = None if rows is None else upstream[0]
            of_columns = None if columns is None else upstream[1]
            _, found = scan(given, (of_rows, of_columns), wanted)
            assert found is not None
            return (
                found.queries,
                found.candidates,
                None if rows is None else found.row_thresholds,
                None if columns is None else found.column_thresholds,
                None if scale is None else found.scale,
            )

        found = Recomputed.apply(
            run,
            differentiate,
            2,
            comparison.queries,
            comparison.candidates,
            terms.row_thresholds,
            terms.column_thresholds,
            terms.scale,
        )
        return Sums(*found)

    def penalty_total(
        self,
        comparison: Comparison,
        terms: PenaltyTerms,
        row_weights: Tensor | None,
        column_weights: Tensor | None = None,
    ) -> Total:
        """See ``Executor``."""
        return weighted_total(self.penalty_sum(comparison, terms), row_weights, column_weights)

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
            queries: Tensor,
            candidates: Tensor,
            weights: Tensor | None,
            wanted: Wanted = EVERYTHING,
        ) -> tuple[PairTerms, tuple[Tensor, Tensor] | None]:
            compared = replace(comparison, queries=queries, candidates=candidates)
            return positives_penalty(
                compared, penalty, margin, ceiling, per_pair, weights, self.tile, wanted
            )

        def run(queries: Tensor, candidates: Tensor) -> tuple[Tensor, ...]:
            terms, _ = scan(queries, candidates, None)
            return terms.all()

        def differentiate(
            given: Saved, results: Saved, upstream: Saved, wanted: Wanted
        ) -> tuple[Tensor, Tensor]:
            _, gradients = scan(given[0], given[1], upstream[0], wanted)
            assert gradients is not None
            return gradients

        found = BatchAll(
            *Recomputed.apply(run, differentiate, 1, comparison.queries, comparison.candidates)
        )
        return found._replace(sums=found.sums.sum()) if total else found

    def selected_penalty(
        self,
        comparison: Comparison,
        terms: SelectedTerms,
        *,
        total: bool = False,
        per_pair: bool = False,
    ) -> SelectedSums:
        """See ``Executor``."""

        def told(given: Saved) -> tuple[Comparison, SelectedTerms]:
            queries, candidates, scale = given
            compared = replace(comparison, queries=queries, candidates=candidates)
            return compared, replace(terms, scale=scale)

        def run(*given: Tensor | None) -> tuple[Tensor, ...]:
            return selected_penalty(*told(given), None, per_pair)[0]

        def differentiate(
            given: Saved, results: Saved, upstream: Saved, wanted: Wanted
        ) -> tuple[Tensor | None, ...]:
            _, found = selected_penalty(*told(given), None, per_pair, upstream[0], wanted)
            assert found is not None
            return found.queries, found.candidates, found.scale

        found = SelectedSums(
            *Recomputed.apply(
                run, differentiate, 1, comparison.queries, comparison.candidates, terms.scale
            )
        )
        return found._replace(sums=found.sums.sum()) if total else found

    def logsumexp(self, comparison: Comparison, terms: ExponentialTerms) -> LogSumExp:
        """See ``Executor``."""

        def with_given(given: Saved) -> tuple[Comparison, ExponentialTerms]:
            queries, candidates, scale = given
            compared = replace(comparison, queries=queries, candidates=candidates)
            return compared, replace(terms, scale=scale)

        def run(*given: Tensor | None) -> tuple[Tensor, ...]:
            return logsumexp(*with_given(given), self.tile)

        def differentiate(
            given: Saved, results: Saved, upstream: Saved, wanted: Wanted
        ) -> tuple[Tensor, Tensor, Tensor | None]:
            asked = upstream[0] if terms.rows else None, upstream[1] if terms.columns else None
            dq, dc, slope = logsumexp_backward(
                *with_given(given), (results[0], results[1]), asked, self.tile, wanted
            )
            return dq, dc, None if terms.scale is None else slope

        found = Recomputed.apply(
            run, differentiate, 2, comparison.queries, comparison.candidates, terms.scale
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
