"""``ListedScores``: positives and negatives that somebody listed, whatever else there is."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple, NoReturn

import torch
from torch import Tensor

from hardneg.ops.comparison import Among, Window
from hardneg.ops.reference import weighted_total
from hardneg.ops.requests import (
    BatchAllTerms,
    ExponentialTerms,
    PairSearch,
    PenaltyTerms,
    Search,
    SelectedTerms,
)
from hardneg.ops.scores import BatchAll, LogSumExp, Scores, Selected, SelectedSums, Sums, Total

if TYPE_CHECKING:
    from jaxtyping import Bool, Float, Int

__all__ = ["ListedPairs", "ListedScores"]


class ListedPairs(NamedTuple):
    """(Query, candidate) pairs by their row numbers; one that is listed twice counts twice."""

    rows: Int[Tensor, "t"]
    columns: Int[Tensor, "t"]


class ListedScores(Scores):
    """Reductions over t listed pairs, in memory O(t). Queries alone are anchors.

    Attributes:
        all: the scores that the pairs are taken from.
        listed: the pairs of each kind.
    """

    def __init__(self, scores: Scores, positives: ListedPairs, negatives: ListedPairs) -> None:
        self.comparison, self.all = scores.comparison, scores
        self.listed = {"positives": positives, "negatives": negatives}
        rows, columns = (torch.cat(x) for x in zip(positives, negatives, strict=True))
        lengths = len(positives.rows), len(negatives.rows)
        found = scores.pairs(rows, columns).split(lengths)
        self.scores = dict(zip(self.listed, found, strict=True))

    def finite(self) -> Float[Tensor, ""]:
        """See ``Scores``."""
        return self.all.finite()

    def pairs(self, rows: Tensor, columns: Tensor) -> Tensor:
        """See ``Scores``."""
        return self.all.pairs(rows, columns)

    def own_scores(self, embeddings: Tensor) -> Tensor:
        """See ``Scores``."""
        return self.all.own_scores(embeddings)

    def magnitudes(self, rows: Tensor, columns: Tensor) -> Tensor:
        """See ``Scores``."""
        return self.all.magnitudes(rows, columns)

    def positive_pairs(self) -> tuple[Tensor, Tensor]:
        """See ``Scores``; in the order of the list."""
        return self.listed["positives"]

    def within(self, among: Among, window: Window) -> Bool[Tensor, "t"]:
        """Which of the pairs lie within the bounds of their query."""
        rows, scores = self.listed[among].rows, self.scores[among].detach()
        inside = torch.ones_like(rows, dtype=torch.bool)
        if window.row_floor is not None:
            inside = inside & (scores > window.row_floor[rows])
        if window.row_ceiling is not None:
            inside = inside & (scores < window.row_ceiling[rows])
        return inside

    def largest(self, among: Among, values: Float[Tensor, "t"]) -> Float[Tensor, "n"]:
        """The largest value of each query, -inf without a pair."""
        lowest = torch.full_like(self.zeros(), -math.inf)
        return lowest.scatter_reduce(0, self.listed[among].rows, values.detach(), "amax")

    def counts(self, among: Among) -> tuple[Tensor, Tensor]:
        """See ``Scores``."""
        n, m = self.shape
        rows, columns = self.listed[among]
        ones = torch.ones_like(rows)
        of_rows, of_columns = ones.new_zeros(n), ones.new_zeros(m)
        return of_rows.index_add(0, rows, ones), of_columns.index_add(0, columns, ones)

    def select(self, search: Search) -> Selected:
        """See ``Scores``; one candidate of each query, the highest or the lowest."""
        selection, (rows, columns) = search.selection, self.listed[search.among]
        assert selection.k == 1
        assert selection.order in ("highest", "lowest")
        assert not search.columns
        scores = self.scores[search.among].detach()
        keys = scores if selection.order == "highest" else -scores
        keys = torch.where(self.within(search.among, search.window), keys, -math.inf)
        best = self.largest(search.among, keys)
        first = (keys == best[rows]) & (keys > -math.inf)
        none = torch.full_like(best, -1, dtype=torch.long)
        index = none.scatter_reduce(0, rows, torch.where(first, columns, -1), "amax")[:, None]
        return Selected(index, index[:0], index[:0], index[:0])

    def penalty_sum(self, terms: PenaltyTerms) -> Sums:
        """See ``Scores``."""
        limits, rows, scores = (
            terms.row_thresholds,
            self.listed[terms.among].rows,
            self.scores[terms.among],
        )
        assert limits is not None
        inside = self.within(terms.among, terms.window)
        scaled = scores if terms.scale is None else scores * terms.scale
        x = terms.sign * (scaled - limits.index_select(0, rows))
        values = torch.where(inside, terms.penalty.value(torch.where(inside, x, 0.0)), 0.0)
        sums = self.zeros().index_add(0, rows, values)
        active = (values.detach() > 0).long()
        counts = active.new_zeros(len(sums)).index_add(0, rows, active)
        maxima = self.largest(terms.among, torch.where(inside, x, -math.inf))
        return Sums(sums, sums[:0], counts, counts[:0], maxima, maxima[:0])

    def penalty_total(
        self, terms: PenaltyTerms, row_weights: Tensor | None, column_weights: Tensor | None = None
    ) -> Total:
        """See ``Scores``."""
        return weighted_total(self.penalty_sum(terms), row_weights, None)

    def logsumexp(self, terms: ExponentialTerms) -> LogSumExp:
        """See ``Scores``."""
        rows, z = self.listed[terms.among].rows, terms.energy(self.scores[terms.among])
        z = z if terms.scale is None else z * terms.scale
        inside = self.within(terms.among, terms.window)
        maxima = self.largest(terms.among, torch.where(inside, z, -math.inf))
        some = maxima > -math.inf
        base = torch.where(some, maxima, 0.0)
        exponentials = torch.where(inside, (z - base[rows]).exp(), 0.0)
        sums = self.zeros().index_add(0, rows, exponentials)
        found = torch.where(some, torch.where(some, sums, 1.0).log() + base, -math.inf)
        return LogSumExp(found, found[:0], maxima, maxima[:0])

    def swapped(self) -> Scores:
        """Of the queries alone."""
        return not_listed("candidates as anchors")

    def select_per_pair(self, search: PairSearch) -> Tensor:
        """Of searches under ceilings, which a list has none of."""
        return not_listed("selection under a ceiling")

    def batch_all(self, terms: BatchAllTerms) -> BatchAll:
        """Of triplets, which are listed themselves."""
        return not_listed("all positives against all negatives")

    def selected_penalty(self, terms: SelectedTerms) -> SelectedSums:
        """Of triplets, which are listed themselves."""
        return not_listed("selection for every positive")


def not_listed(what: str) -> NoReturn:
    """What lists of pairs are not asked for."""
    raise NotImplementedError(f"listed pairs have no {what}")
