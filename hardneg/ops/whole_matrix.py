"""The reductions carried out as they are defined, over the whole score matrix."""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import Tensor

from hardneg.ceilings import Ceiling
from hardneg.ops import reference, reference_pairs
from hardneg.ops.description import Among, Comparison
from hardneg.ops.executor import BatchAll, LogSumExp, Selected, SelectedSums, Sums, Total
from hardneg.ops.operators.magnitudes import magnitudes
from hardneg.ops.requests import ExponentialTerms, PenaltyTerms, Search, SelectedTerms
from hardneg.penalties import Penalty
from hardneg.selection import Selection

__all__ = ["WholeMatrix", "weighted_total"]


class WholeMatrix(ABC):
    """Executors that differ only in how the matrix comes about."""

    @abstractmethod
    def scored(self, comparison: Comparison) -> Comparison:
        """The comparison with all its scores at hand."""

    def select(self, comparison: Comparison, search: Search) -> Selected:
        """See ``Executor``."""
        return reference.select(self.scored(comparison), search)

    def select_per_pair(
        self,
        comparison: Comparison,
        anchors: Tensor,
        ceilings: Tensor,
        selection: Selection,
        seed: Tensor | None = None,
    ) -> Tensor:
        """See ``Executor``."""
        return reference.select_per_pair(
            self.scored(comparison), anchors, ceilings, selection, seed
        )

    def pair_scores(self, comparison: Comparison, rows: Tensor, columns: Tensor) -> Tensor:
        """See ``Executor``."""
        return reference.pair_scores(self.scored(comparison), rows, columns)

    def magnitudes(self, comparison: Comparison, rows: Tensor, columns: Tensor) -> Tensor:
        """See ``Executor``."""
        return magnitudes(comparison, rows, columns)

    def penalty_sum(self, comparison: Comparison, terms: PenaltyTerms) -> Sums:
        """See ``Executor``."""
        return reference.penalty_sum(self.scored(comparison), terms)

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
        scored = self.scored(comparison)
        found = reference_pairs.positives_penalty(scored, penalty, margin, ceiling, per_pair)
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
        found = reference_pairs.selected_penalty(self.scored(comparison), terms, per_pair)
        return found._replace(sums=found.sums.sum()) if total else found

    def logsumexp(self, comparison: Comparison, terms: ExponentialTerms) -> LogSumExp:
        """See ``Executor``."""
        return reference.logsumexp(self.scored(comparison), terms)

    def admitted_counts(self, comparison: Comparison, among: Among) -> tuple[Tensor, Tensor]:
        """See ``Executor``."""
        return reference.admitted_counts(comparison, among)

    def positive_pairs(self, comparison: Comparison) -> tuple[Tensor, Tensor]:
        """See ``Executor``."""
        return reference.positive_pairs(comparison)


def weighted_total(sums: Sums, row_weights: Tensor | None, column_weights: Tensor | None) -> Total:
    """The total of sums under the weights of their anchors."""
    parts = [
        (of_side * weights).sum()
        for of_side, weights in ((sums.rows, row_weights), (sums.columns, column_weights))
        if weights is not None
    ]
    return Total(torch.stack(parts).sum(), *sums[2:])
