"""The executor of the definitions: plain autograd over the whole matrix."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from hardneg.ceilings import Ceiling
from hardneg.ops import reference
from hardneg.ops.description import Comparison
from hardneg.ops.executor import BatchAll, LogSumExp, Selected, Sums, Total
from hardneg.penalties import Penalty

__all__ = ["Dense", "weighted_total"]


@dataclass(frozen=True)
class Dense:
    """For tests, small inputs and second derivatives: O(n m) memory, O(n m d) for order and distances."""

    def select(self, *args: Any, **options: Any) -> Selected:
        """See ``Executor``."""
        return Selected(*reference.select(*args, **options))

    def select_per_pair(self, *args: Any, **options: Any) -> Tensor:
        """See ``Executor``."""
        return reference.select_per_pair(*args, **options)

    def pair_scores(self, comparison: Comparison, rows: Tensor, columns: Tensor) -> Tensor:
        """See ``Executor``."""
        return reference.pair_scores(comparison, rows, columns)

    def penalty_sum(self, *args: Any, **options: Any) -> Sums:
        """See ``Executor``."""
        return Sums(*reference.penalty_sum(*args, **options))

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
        options = (margin, ceiling, per_pair)
        found = BatchAll(*reference.positives_penalty(comparison, penalty, *options))
        return found._replace(sums=found.sums.sum()) if total else found

    def logsumexp(self, *args: Any, **options: Any) -> LogSumExp:
        """See ``Executor``."""
        return LogSumExp(*reference.logsumexp(*args, **options))

    def admitted_counts(self, comparison: Comparison, among: str) -> tuple[Tensor, Tensor]:
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
