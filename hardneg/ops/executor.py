"""The face of whoever carries the reductions out.

``Dense`` (the definitions), ``SingleTile`` (the same over scores computed once) and ``Tiled`` (recomputed
tiles) are here; fused GPU kernels, or an executor that runs another one on every rank and combines the
column results, take the same place.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, Protocol

from torch import Tensor

from hardneg.ceilings import Ceiling
from hardneg.ops.description import Among, Comparison
from hardneg.ops.requests import ExponentialTerms, PenaltyTerms, Search, SelectedTerms
from hardneg.penalties import Penalty
from hardneg.selection import Selection

if TYPE_CHECKING:
    from jaxtyping import Float, Int

__all__ = ["BatchAll", "Executor", "LogSumExp", "Selected", "SelectedSums", "Sums", "Total"]


NO_SECOND_DERIVATIVE = (
    "hardneg: a second derivative was asked for (create_graph=True), which the tiled and fused "
    'reductions do not have: use backend="dense"'
)


class Selected(NamedTuple):
    """Indices of the selected, -1 for none; the hardest of all is empty unless asked for."""

    rows: Int[Tensor, "n k"]
    columns: Int[Tensor, "m k"]
    hardest_rows: Int[Tensor, "n 1"]
    hardest_columns: Int[Tensor, "m 1"]


class Sums(NamedTuple):
    """Sums of a penalty, counts of terms above 0, largest arguments; a side not asked for is empty."""

    rows: Float[Tensor, "n"]
    columns: Float[Tensor, "m"]
    row_counts: Int[Tensor, "n"]
    column_counts: Int[Tensor, "m"]
    row_maxima: Float[Tensor, "n"]
    column_maxima: Float[Tensor, "m"]


class Total(NamedTuple):
    """A weighted total of such sums; the counts and maxima as there."""

    value: Float[Tensor, ""]
    row_counts: Int[Tensor, "n"]
    column_counts: Int[Tensor, "m"]
    row_maxima: Float[Tensor, "n"]
    column_maxima: Float[Tensor, "m"]


class BatchAll(NamedTuple):
    """Sums under every positive as threshold, counts of terms above 0; for the statistics of each anchor
    its highest negative and the sum of its positives' scores; how many of its positives admit a negative.
    """

    sums: Float[Tensor, "..."]
    counts: Int[Tensor, "..."]
    maxima: Float[Tensor, "n"]
    positive_sums: Float[Tensor, "n"]
    pairs: Int[Tensor, "n"]


class SelectedSums(NamedTuple):
    """Terms over selected negatives, one a pair, or added up by query, or in all.

    The terms; of each pair or query how many of its negatives gave a value above 0, how many there were,
    and the score of the positive (for a query: the sum over its pairs that have a negative); of each query
    how many of its pairs have a negative.
    """

    sums: Float[Tensor, "..."]
    counts: Int[Tensor, "..."]
    considered: Int[Tensor, "..."]
    positives: Float[Tensor, "..."]
    pairs: Int[Tensor, "n"]


class LogSumExp(NamedTuple):
    """Log-sum-exps and the largest exponents."""

    rows: Float[Tensor, "n"]
    columns: Float[Tensor, "m"]
    row_maxima: Float[Tensor, "n"]
    column_maxima: Float[Tensor, "m"]


class Executor(Protocol):
    """The reductions and the gather; ``hardneg.ops.reference`` defines what each returns."""

    def select(self, comparison: Comparison, search: Search) -> Selected:
        """The first k admitted candidates of every query, and queries of every candidate."""

    def select_per_pair(
        self,
        comparison: Comparison,
        anchors: Int[Tensor, "t"],
        ceilings: Float[Tensor, "t"],
        selection: Selection,
        seed: Tensor | None = None,
    ) -> Int[Tensor, "t k"]:
        """The same of the queries ``anchors`` (rising), each under its own ceiling."""

    def pair_scores(
        self, comparison: Comparison, rows: Int[Tensor, "..."], columns: Int[Tensor, "..."]
    ) -> Float[Tensor, "..."]:
        """Scores of listed pairs, differentiable; 0 where an index is -1."""

    def magnitudes(
        self, comparison: Comparison, rows: Int[Tensor, "..."], columns: Int[Tensor, "..."]
    ) -> Float[Tensor, "..."]:
        """What the rounding of the scores of listed pairs is proportional to, for dot and distances."""

    def penalty_sum(self, comparison: Comparison, terms: PenaltyTerms) -> Sums:
        """Sums of the terms over each anchor's admitted candidates."""

    def penalty_total(
        self,
        comparison: Comparison,
        terms: PenaltyTerms,
        row_weights: Float[Tensor, "n"] | None,
        column_weights: Float[Tensor, "m"] | None = None,
    ) -> Total:
        """``row_weights @ rows + column_weights @ columns`` of ``penalty_sum``; weights have no gradient.

        Every side with thresholds has weights.
        """

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
        """Batch-all: one sum over all anchors with ``total``, one a pair with ``per_pair``, else one an anchor."""

    def selected_penalty(
        self,
        comparison: Comparison,
        terms: SelectedTerms,
        *,
        total: bool = False,
        per_pair: bool = False,
    ) -> SelectedSums:
        """The terms of all pairs: one sum with ``total``, one a pair with ``per_pair``, else one a query."""

    def logsumexp(self, comparison: Comparison, terms: ExponentialTerms) -> LogSumExp:
        """Log of the sum of the terms over each anchor's admitted candidates."""

    def admitted_counts(
        self, comparison: Comparison, among: Among
    ) -> tuple[Int[Tensor, "n"], Int[Tensor, "m"]]:
        """How many candidates every query admits, and how many queries every candidate."""

    def positive_pairs(self, comparison: Comparison) -> tuple[Int[Tensor, "t"], Int[Tensor, "t"]]:
        """All (query, positive candidate) pairs, by query; their number is read from the device."""
