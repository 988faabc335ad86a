"""The executor of the tiled operators."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from hardneg import energies
from hardneg.ceilings import Ceiling
from hardneg.checks import check_tile
from hardneg.ops import operators
from hardneg.ops.description import Among, Comparison, Window
from hardneg.ops.executor import BatchAll, LogSumExp, Selected, SelectedSums, Sums, Total
from hardneg.ops.operators.magnitudes import magnitudes
from hardneg.ops.requests import ExponentialTerms, PenaltyTerms, Search, SelectedTerms
from hardneg.ops.whole_matrix import weighted_total
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

    engine: ClassVar[str] = "tiled"
    """Who carries out the operators that have a kernel."""

    tile: tuple[int, int] | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "tile", check_tile(self.tile))

    def described(self, comparison: Comparison) -> tuple[Any, ...]:
        """A comparison in the operators' order."""
        relation = comparison.relation
        return (
            *comparison.embeddings,
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
            self.engine,
        )

    def select(self, comparison: Comparison, search: Search) -> Selected:
        """See ``Executor``."""
        found = OPERATORS.select(
            *self.described(comparison),
            *bounds(search.window),
            search.seed,
            search.among,
            *spelled(search.selection),
            search.rows,
            search.columns,
            search.hardest,
        )
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
        return OPERATORS.select_per_pair(
            *self.described(comparison), anchors, ceilings.detach(), seed, *spelled(selection)
        )

    def pair_scores(self, comparison: Comparison, rows: Tensor, columns: Tensor) -> Tensor:
        """See ``Executor``."""
        found = OPERATORS.pair_scores(
            *comparison.embeddings,
            rows.reshape(-1),
            columns.reshape(-1),
            comparison.similarity.code,
            self.engine,
        )
        return found.view(rows.shape)

    def magnitudes(self, comparison: Comparison, rows: Tensor, columns: Tensor) -> Tensor:
        """See ``Executor``."""
        return magnitudes(comparison, rows, columns)

    def penalty_sum(self, comparison: Comparison, terms: PenaltyTerms) -> Sums:
        """See ``Executor``."""
        return Sums(*OPERATORS.penalty_sum(*self.described(comparison), *penalty_terms(terms)))

    def penalty_total(
        self,
        comparison: Comparison,
        terms: PenaltyTerms,
        row_weights: Tensor | None,
        column_weights: Tensor | None = None,
    ) -> Total:
        """See ``Executor``."""
        inputs = terms.row_thresholds, terms.column_thresholds, terms.scale
        if not gradients_in_one_pass(comparison, *inputs):
            return weighted_total(self.penalty_sum(comparison, terms), row_weights, column_weights)
        found = OPERATORS.penalty_total(
            *self.described(comparison),
            *penalty_terms(terms),
            row_weights,
            column_weights,
            wanted_of(comparison, terms.scale),
        )
        return Total(*found[:5])

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
        in_one_pass = total and gradients_in_one_pass(comparison)
        told = (
            *self.described(comparison),
            penalty.code,
            margin,
            [] if ceiling is None else [ceiling.relative, ceiling.offset],
            per_pair,
        )
        if in_one_pass:
            found = OPERATORS.positives_penalty_total(*told, wanted_of(comparison, None))
        else:
            found = OPERATORS.positives_penalty(*told)
        terms = BatchAll(*found[:5])
        return terms._replace(sums=terms.sums.sum()) if total and not in_one_pass else terms

    def selected_penalty(
        self,
        comparison: Comparison,
        terms: SelectedTerms,
        *,
        total: bool = False,
        per_pair: bool = False,
    ) -> SelectedSums:
        """See ``Executor``."""
        chosen = None
        if terms.ceiling is None:
            search = Search(terms.selection, seed=terms.seed, columns=False)
            chosen = self.select(comparison, search).rows
        told = (*self.described(comparison), chosen, *selected_terms(terms), per_pair)
        if total and gradients_in_one_pass(comparison, terms.scale):
            found = OPERATORS.selected_penalty_total(*told, wanted_of(comparison, terms.scale))
            return SelectedSums(*found[:5])
        sums = SelectedSums(*OPERATORS.selected_penalty(*told))
        return sums._replace(sums=sums.sums.sum()) if total else sums

    def logsumexp(self, comparison: Comparison, terms: ExponentialTerms) -> LogSumExp:
        """See ``Executor``."""
        found = OPERATORS.logsumexp(
            *self.described(comparison),
            *bounds(terms.window),
            terms.scale,
            terms.among,
            terms.energy.code,
            energies.parameters(terms.energy),
            terms.rows,
            terms.columns,
        )
        return LogSumExp(*found)

    def admitted_counts(self, comparison: Comparison, among: Among) -> tuple[Tensor, Tensor]:
        """See ``Executor``."""
        rows, columns = OPERATORS.admitted_counts(*self.described(comparison), among)
        return rows, columns

    def positive_pairs(self, comparison: Comparison) -> tuple[Tensor, Tensor]:
        """See ``Executor``."""
        anchors, positives = OPERATORS.positive_pairs(*self.described(comparison))
        return anchors, positives


def gradients_in_one_pass(comparison: Comparison, *others: Tensor | None) -> bool:
    """Whether the forward pass of a total computes its gradients.

    Where nothing wants a gradient the plain sums do, a third of the work.
    """
    sides = comparison.queries, comparison.candidates
    wanted = any(x is not None and x.requires_grad for x in (*sides, *others))
    return torch.is_grad_enabled() and wanted


def wanted_of(comparison: Comparison, scale: Tensor | None) -> list[bool]:
    """Which gradients a total's forward pass computes: those of queries, candidates and scale that want one."""
    inputs = comparison.queries, comparison.candidates, scale
    return [x is not None and x.requires_grad for x in inputs]


def bounds(window: Window) -> tuple[Tensor | None, ...]:
    """The bounds in the operators' order, detached: a window is not differentiated."""
    return tuple(None if bound is None else bound.detach() for bound in window)


def penalty_terms(terms: PenaltyTerms) -> tuple[Any, ...]:
    """Terms in the operators' order."""
    return (
        *bounds(terms.window),
        terms.row_thresholds,
        terms.column_thresholds,
        terms.scale,
        terms.among,
        terms.penalty.code,
        terms.sign,
    )


def selected_terms(terms: SelectedTerms) -> tuple[Any, ...]:
    """Terms over selected negatives in the operators' order."""
    return (
        terms.seed,
        terms.scale,
        "" if terms.penalty is None else terms.penalty.code,
        terms.margin,
        [] if terms.ceiling is None else [terms.ceiling.relative, terms.ceiling.offset],
        *spelled(terms.selection),
    )


def spelled(selection: Selection) -> tuple[Any, ...]:
    """A selection in the operators' order."""
    parameters = list(selection.parameters)
    return selection.order, selection.k, selection.skip, parameters, selection.fallback
