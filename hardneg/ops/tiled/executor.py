"""The executor of the tiled operators."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from hardneg import energies
from hardneg.ceilings import Ceiling
from hardneg.energies import Energy
from hardneg.ops import operators
from hardneg.ops.dense import weighted_total
from hardneg.ops.description import Among, Comparison, Window
from hardneg.ops.executor import BatchAll, LogSumExp, Selected, Sums, Total
from hardneg.penalties import Penalty
from hardneg.selection import Selection

__all__ = ["Tiled"]

assert operators  # importing them registers torch.ops.hardneg.*
OPERATORS = torch.ops.hardneg


@dataclass(frozen=True)
class Tiled:
    """Recomputed tiles on any device: memory O((n + m) d + tile).

    Attributes:
        tile: rows and columns of a tile; None for the device's default.
    """

    tile: tuple[int, int] | None = None

    def described(self, comparison: Comparison) -> tuple[Any, ...]:
        """A comparison in the operators' order."""
        relation = comparison.relation
        return (
            comparison.queries,
            comparison.candidates,
            relation.row_ids,
            relation.column_ids,
            relation.positives,
            relation.ignore,
            relation.paired,
            relation.same_set,
            relation.row_offset,
            relation.column_offset,
            comparison.similarity.code,
            list(self.tile or ()),
        )

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
        described = (*self.described(comparison), *bounds(window), seed, among)
        found = OPERATORS.select(*described, *spelled(selection), rows, columns, hardest)
        return Selected(*found)

    def select_per_pair(
        self,
        comparison: Comparison,
        anchors: Tensor,
        ceilings: Tensor,
        selection: Selection,
        seed: Tensor | None = None,
    ) -> Tensor:
        """See ``Executor``."""
        described = (*self.described(comparison), anchors, ceilings.detach(), seed)
        return OPERATORS.select_per_pair(*described, *spelled(selection))

    def pair_scores(self, comparison: Comparison, rows: Tensor, columns: Tensor) -> Tensor:
        """See ``Executor``."""
        pairs = rows.reshape(-1), columns.reshape(-1)
        embeddings = comparison.queries, comparison.candidates
        found = OPERATORS.pair_scores(*embeddings, *pairs, comparison.similarity.code)
        return found.view(rows.shape)

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
        described = (*self.described(comparison), *bounds(window))
        told = (row_thresholds, column_thresholds, scale, among, penalty.code, sign)
        return Sums(*OPERATORS.penalty_sum(*described, *told))

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
        """See ``Executor``. Without autograd the plain sums do, a third of the work."""
        told = {"among": among, "sign": sign, "scale": scale}
        thresholds = row_thresholds, column_thresholds
        if not torch.is_grad_enabled():
            sums = self.penalty_sum(comparison, penalty, *thresholds, **told)
            return weighted_total(sums, row_weights, column_weights)
        described = (*self.described(comparison), *bounds(Window()), *thresholds)
        rest = (scale, among, penalty.code, sign, row_weights, column_weights)
        return Total(*OPERATORS.penalty_total(*described, *rest)[:5])

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
        bound = [] if ceiling is None else [ceiling.relative, ceiling.offset]
        described = (*self.described(comparison), penalty.code, margin, bound, per_pair)
        if total and torch.is_grad_enabled():
            return BatchAll(*OPERATORS.positives_penalty_total(*described)[:4])
        found = BatchAll(*OPERATORS.positives_penalty(*described))
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
        described = (*self.described(comparison), *bounds(window), scale, among)
        told = (energy.code, energies.parameters(energy), rows, columns)
        return LogSumExp(*OPERATORS.logsumexp(*described, *told))

    def admitted_counts(self, comparison: Comparison, among: str) -> tuple[Tensor, Tensor]:
        """See ``Executor``."""
        rows, columns = OPERATORS.admitted_counts(*self.described(comparison), among)
        return rows, columns

    def positive_pairs(self, comparison: Comparison) -> tuple[Tensor, Tensor]:
        """See ``Executor``."""
        anchors, positives = OPERATORS.positive_pairs(*self.described(comparison))
        return anchors, positives


def bounds(window: Window) -> tuple[Tensor | None, ...]:
    """The bounds in the operators' order, detached: a window is not differentiated."""
    four = (window.row_floor, window.row_ceiling, window.column_floor, window.column_ceiling)
    return tuple(None if bound is None else bound.detach() for bound in four)


def spelled(selection: Selection) -> tuple[Any, ...]:
    """A selection in the operators' order."""
    parameters = list(selection.parameters)
    return selection.order, selection.k, selection.skip, parameters, selection.fallback
