"""``DenseScores``: the definitions of the reductions, over the whole matrix. The specification of all backends.

Plain autograd, in float64 where the inputs are float64. Those over every positive of a query are in
``hardneg.ops.reference_pairs``, those of one row in ``hardneg.ops.reference_rows``.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from hardneg.negatives import Selection
from hardneg.negatives.selection import COLUMN_SALT, ROW_SALT, ranking_keys
from hardneg.ops import reference_pairs
from hardneg.ops.comparison import Among, Comparison, admitted_mask
from hardneg.ops.half_precision import in_float32
from hardneg.ops.reference_rows import (
    first_k,
    masked_logsumexp,
    penalty_of_rows,
    select_rows,
    within,
)
from hardneg.ops.requests import (
    BatchAllTerms,
    ExponentialTerms,
    PairSearch,
    PenaltyTerms,
    Search,
    SelectedTerms,
)
from hardneg.ops.rounding import Magnitudes
from hardneg.ops.scores import (
    BatchAll,
    LogSumExp,
    Scores,
    Selected,
    SelectedSums,
    Sums,
    Total,
)
from hardneg.similarities import is_builtin, scores_of, upcast

if TYPE_CHECKING:
    from jaxtyping import Bool, Float, Int

__all__ = ["Dense", "DenseScores", "weighted_total"]


@dataclass(frozen=True)
class Dense:
    """The definitions themselves: O(n m) memory, O(n m d) for order and distances.

    For tests, small inputs, forward-mode and second derivatives.
    """

    def scores(self, comparison: Comparison) -> DenseScores:
        """The whole matrix, when it is first read."""
        return DenseScores(in_float32(comparison))


class DenseScores(Scores):
    """The score matrix, computed once."""

    def __init__(self, comparison: Comparison, matrix: Tensor | None = None) -> None:
        self.comparison = comparison
        self.known, self.differentiable = matrix, torch.is_grad_enabled()

    @property
    def matrix(self) -> Float[Tensor, "n m"]:
        """The scores, in float32 or float64, outside autocast; differentiable where the call is."""
        if self.known is None:
            with torch.set_grad_enabled(self.differentiable):
                self.known = self.compute()
        return self.known

    def compute(self) -> Float[Tensor, "n m"]:
        """``similarity(queries, candidates)``."""
        compared = self.comparison
        q, c = upcast(compared.queries), upcast(compared.candidates)
        return scores_of(compared.similarity, q, c)

    def swapped(self) -> DenseScores:
        """The transposed matrix."""
        with torch.set_grad_enabled(self.differentiable):
            return type(self)(self.comparison.swapped(), self.matrix.T)

    def mask(self, among: Among) -> Bool[Tensor, "n m"]:
        """Which pairs take part."""
        n, m = self.shape
        return admitted_mask(self.relation, among, slice(0, n), slice(0, m), self.device)

    def select(self, search: Search) -> Selected:
        """What ``Search`` describes; a side that does not search is empty."""
        window = search.window
        with torch.no_grad():
            s, taken = self.matrix.detach(), self.mask(search.among)
            of_rows = self.side(search, s, taken, (window.row_floor, window.row_ceiling))
            bounds = window.column_floor, window.column_ceiling
            of_columns = self.side(search, s.T, taken.T, bounds, columns=True)
        return Selected(of_rows[0], of_columns[0], of_rows[1], of_columns[1])

    def side(
        self,
        search: Search,
        s: Float[Tensor, "n m"],
        taken: Bool[Tensor, "n m"],
        bounds: tuple[Tensor | None, Tensor | None],
        columns: bool = False,
    ) -> tuple[Int[Tensor, "n k"], Int[Tensor, "n 1"]]:
        """The selection of one side and, if asked for, its hardest of all."""
        selection = search.selection
        if not (search.columns if columns else search.rows):
            none = torch.empty(0, selection.k - selection.skip, dtype=torch.long, device=s.device)
            return none, none.new_empty(0, 1)
        keys = self.keys(s, selection, search.seed, columns)
        chosen = select_rows(s, taken, keys, selection, bounds)
        return chosen, first_k(s, taken, 1) if search.hardest else chosen.new_empty(0, 1)

    def keys(
        self, s: Tensor, selection: Selection, seed: Tensor | None, columns: bool = False
    ) -> Float[Tensor, "n m"]:
        """What is ranked, by the global numbers of anchors (rows of ``s``) and others."""
        if selection.order == "highest":
            return s
        relation, salt = self.relation, COLUMN_SALT if columns else ROW_SALT
        offsets = [relation.row_offset, relation.column_offset]
        anchors, others = (
            torch.arange(length, device=s.device) + offset
            for length, offset in zip(s.shape, offsets[::-1] if columns else offsets, strict=True)
        )
        similarity = self.comparison.similarity
        return ranking_keys(s, selection, similarity, seed, anchors, others, salt)

    def select_per_pair(self, search: PairSearch) -> Int[Tensor, "t k"]:
        """``select`` among the negatives of ``anchors[t]`` that score below ``ceilings[t]``, for every t."""
        with torch.no_grad():
            s, taken, anchors = self.matrix.detach(), self.mask("negatives"), search.anchors
            keys = self.keys(s, search.selection, search.seed)[anchors]
            bounds = search.bounds
            return select_rows(s[anchors], taken[anchors], keys, search.selection, bounds)

    def pairs(self, rows: Int[Tensor, "..."], columns: Int[Tensor, "..."]) -> Float[Tensor, "..."]:
        """``matrix[rows, columns]``; 0 without gradient where either index is negative."""
        found = self.matrix[rows.clamp(min=0), columns.clamp(min=0)]
        return torch.where((rows >= 0) & (columns >= 0), found, 0.0)

    def own_scores(self, embeddings: Float[Tensor, "n k d"]) -> Float[Tensor, "n k"]:
        """``similarity(queries[i : i + 1], embeddings[i])`` of every i."""
        compared = self.comparison
        q, own = upcast(compared.queries), upcast(embeddings)
        if is_builtin(compared.similarity):
            with torch.autocast(q.device.type, enabled=False):
                found: Tensor = compared.similarity.pairs(q[:, None], own)
            return found
        each = zip(q.split(1), own.unbind(), strict=True)
        return torch.cat([scores_of(compared.similarity, one, others) for one, others in each])

    def magnitudes(self, rows: Tensor, columns: Tensor) -> Tensor:
        """What the rounding of listed scores is proportional to."""
        with torch.no_grad():
            return Magnitudes(self.comparison).of_pairs(rows, columns)

    def counts(self, among: Among) -> tuple[Int[Tensor, "n"], Int[Tensor, "m"]]:
        """How many candidates every query admits, and how many queries every candidate."""
        taken = self.mask(among)
        return taken.sum(1), taken.sum(0)

    def positive_pairs(self) -> tuple[Int[Tensor, "t"], Int[Tensor, "t"]]:
        """All (query, positive candidate) pairs, by query, then by candidate."""
        rows, columns = self.mask("positives").nonzero(as_tuple=True)
        return rows, columns

    def penalty_sum(self, terms: PenaltyTerms) -> Sums:
        """Sum over the admitted candidates of ``phi(sign * (scale * score - threshold))``.

        For rows and for columns: the sums, the counts of terms with a value above 0, and the largest
        argument of phi (-inf where nothing was admitted). A side without thresholds is empty.
        """
        s, taken, window = self.matrix, self.mask(terms.among), terms.window
        bounds = window.row_floor, window.row_ceiling
        rows = penalty_of_rows(terms, s, taken, terms.row_thresholds, bounds)
        bounds = window.column_floor, window.column_ceiling
        columns = penalty_of_rows(terms, s.T, taken.T, terms.column_thresholds, bounds)
        return Sums(*(x for both in zip(rows, columns, strict=True) for x in both))

    def penalty_total(
        self,
        terms: PenaltyTerms,
        row_weights: Float[Tensor, "n"] | None,
        column_weights: Float[Tensor, "m"] | None = None,
    ) -> Total:
        """The sums under the weights of their anchors."""
        return weighted_total(self.penalty_sum(terms), row_weights, column_weights)

    def batch_all(self, terms: BatchAllTerms) -> BatchAll:
        """Every positive of a query against every negative of it."""
        return reference_pairs.batch_all(self, terms)

    def selected_penalty(self, terms: SelectedTerms) -> SelectedSums:
        """Every positive of a query against the negatives selected for it."""
        return reference_pairs.selected_penalty(self, terms)

    def logsumexp(self, terms: ExponentialTerms) -> LogSumExp:
        """Log of the sum over the admitted candidates of ``exp(scale * energy(score))``.

        For rows and for columns, -inf where there are none; then the largest exponents of both.
        """
        s, taken, window = self.matrix, self.mask(terms.among), terms.window
        logits = terms.energy(s) if terms.scale is None else terms.energy(s) * terms.scale
        raw, none = s.detach(), s.new_zeros(0)
        of_rows = within(taken, raw, window.row_floor, window.row_ceiling)
        of_columns = within(taken.T, raw.T, window.column_floor, window.column_ceiling)
        sides = (terms.rows, logits, of_rows), (terms.columns, logits.T, of_columns)
        result = [masked_logsumexp(z, inside) if on else none for on, z, inside in sides]
        maxima = [
            torch.where(inside, z.detach(), -math.inf).amax(1) if on else none
            for on, z, inside in sides
        ]
        return LogSumExp(*result, *maxima)


def weighted_total(sums: Sums, row_weights: Tensor | None, column_weights: Tensor | None) -> Total:
    """The total of sums under the weights of their anchors."""
    parts = [
        (of_side * weights).sum()
        for of_side, weights in ((sums.rows, row_weights), (sums.columns, column_weights))
        if weights is not None
    ]
    return Total(torch.stack(parts).sum(), *sums[2:])
