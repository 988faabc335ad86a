"""``GuidedScores``: scores of which the embeddings of another model leave out likely positives."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from hardneg.negatives import Ceiling, Selection
from hardneg.ops.backends import bind
from hardneg.ops.comparison import Among, Comparison, Window
from hardneg.ops.guide import Guide
from hardneg.ops.requests import (
    BatchAllTerms,
    ExponentialTerms,
    PairSearch,
    PenaltyTerms,
    Search,
    SelectedTerms,
)
from hardneg.ops.rounding import bounds_under, rounding_of
from hardneg.ops.scores import (
    Backend,
    BatchAll,
    LogSumExp,
    Scores,
    Selected,
    SelectedSums,
    Sums,
    Total,
)
from hardneg.similarities import Cosine, score_dtype

if TYPE_CHECKING:
    from jaxtyping import Float

__all__ = ["GuidedScores"]


class GuidedScores(Scores):
    """Two comparisons: of the queries with the candidates left to them, and of the candidates with theirs.

    A pair may be a negative of its query and not of its candidate, so each side is reduced in a pass of its own.
    """

    def __init__(self, of_queries: Scores, of_candidates: Scores | None) -> None:
        self.comparison = of_queries.comparison
        self.of_queries, self.of_candidates = of_queries, of_candidates

    @classmethod
    def of(
        cls,
        backend: str | Backend,
        comparison: Comparison,
        guide: tuple[Float[Tensor, "n g"], Float[Tensor, "m g"]],
        ceiling: Ceiling,
        directions: str,
    ) -> GuidedScores:
        """Of a comparison: negatives score below the ceiling over the anchor's positive by the guide."""
        queries, candidates = (x.detach() for x in guide)
        known = Comparison(queries, candidates, Cosine(), comparison.relation)
        of_queries = guided(backend, comparison, known, ceiling)
        if directions in ("queries", "joint"):
            return cls(of_queries, None)
        return cls(of_queries, guided(backend, comparison.swapped(), known.swapped(), ceiling))

    @property
    def turned(self) -> Scores:
        """The candidates' comparison."""
        assert self.of_candidates is not None
        return self.of_candidates

    def swapped(self) -> GuidedScores:
        """See ``Scores``."""
        return GuidedScores(self.turned, self.of_queries)

    def shared_seed(self, seed: Tensor | None) -> Tensor | None:
        """See ``Scores``."""
        return self.of_queries.shared_seed(seed)

    def own_scores(self, embeddings: Tensor) -> Tensor:
        """See ``Scores``."""
        return self.of_queries.own_scores(embeddings)

    def pairs(self, rows: Tensor, columns: Tensor) -> Tensor:
        """See ``Scores``."""
        return self.of_queries.pairs(rows, columns)

    def magnitudes(self, rows: Tensor, columns: Tensor) -> Tensor:
        """See ``Scores``."""
        return self.of_queries.magnitudes(rows, columns)

    def positive_pairs(self) -> tuple[Tensor, Tensor]:
        """See ``Scores``."""
        return self.of_queries.positive_pairs()

    def counts(self, among: Among) -> tuple[Tensor, Tensor]:
        """See ``Scores``."""
        rows, columns = self.of_queries.counts(among)
        return rows, columns if self.of_candidates is None else self.turned.counts(among)[0]

    def select(self, search: Search) -> Selected:
        """See ``Scores``."""
        seed = self.shared_seed(search.seed)
        search = replace(search, seed=seed)
        rows = self.of_queries.select(replace(search, columns=False))
        if not search.columns:
            return rows
        exchanged = replace(search, window=search.window.swapped(), columns=False, rows=True)
        columns = self.turned.select(exchanged)
        return rows._replace(columns=columns.rows, hardest_columns=columns.hardest_rows)

    def select_per_pair(self, search: PairSearch) -> Tensor:
        """See ``Scores``."""
        return self.of_queries.select_per_pair(search)

    def penalty_sum(self, terms: PenaltyTerms) -> Sums:
        """See ``Scores``."""
        sides = (self.of_queries, of_rows(terms)), (self.of_candidates, of_columns(terms))
        rows, columns = (sums_of(self, scores, one) for scores, one in sides)
        return Sums(*(x for pair in zip(rows, columns, strict=True) for x in pair))

    def penalty_total(
        self,
        terms: PenaltyTerms,
        row_weights: Tensor | None,
        column_weights: Tensor | None = None,
    ) -> Total:
        """See ``Scores``."""
        rows = total_of(self, self.of_queries, of_rows(terms), row_weights)
        columns = total_of(self, self.of_candidates, of_columns(terms), column_weights)
        return Total(
            rows.value + columns.value,
            rows.row_counts,
            columns.row_counts,
            rows.row_maxima,
            columns.row_maxima,
        )

    def logsumexp(self, terms: ExponentialTerms) -> LogSumExp:
        """See ``Scores``."""
        none = self.zeros()[:0]
        rows = columns = (none, none)
        if terms.rows:
            found = self.of_queries.logsumexp(replace(terms, columns=False))
            rows = found.rows, found.row_maxima
        if terms.columns:
            window = terms.window.swapped()
            found = self.turned.logsumexp(replace(terms, window=window, rows=True, columns=False))
            columns = found.rows, found.row_maxima
        return LogSumExp(rows[0], columns[0], rows[1], columns[1])

    def selected_penalty(self, terms: SelectedTerms) -> SelectedSums:
        """See ``Scores``."""
        return self.of_queries.selected_penalty(terms)

    def batch_all(self, terms: BatchAllTerms) -> BatchAll:
        """See ``Scores``."""
        return self.of_queries.batch_all(terms)


def guided(
    backend: str | Backend, comparison: Comparison, known: Comparison, ceiling: Ceiling
) -> Scores:
    """The scores of a comparison, of which what is known by the guide leaves out pairs of each query."""
    bounds = bounds_by(bind(backend, known), ceiling).to(score_dtype(comparison.queries))
    return bind(backend, comparison.among(guide=Guide(known.queries, known.candidates, bounds)))


def of_rows(terms: PenaltyTerms) -> PenaltyTerms:
    """The terms of the rows alone."""
    window = Window(terms.window.row_floor, terms.window.row_ceiling)
    return replace(terms, column_thresholds=None, window=window)


def of_columns(terms: PenaltyTerms) -> PenaltyTerms:
    """The terms of the columns alone, as those of rows."""
    window = Window(terms.window.column_floor, terms.window.column_ceiling)
    limits = terms.column_thresholds
    return replace(terms, row_thresholds=limits, column_thresholds=None, window=window)


def sums_of(
    like: Scores, scores: Scores | None, terms: PenaltyTerms
) -> tuple[Tensor, Tensor, Tensor]:
    """Sums, counts and maxima of the rows; empty without thresholds."""
    if scores is None or terms.row_thresholds is None:
        none = like.zeros()[:0]
        return none, none.long(), none
    found = scores.penalty_sum(terms)
    return found.rows, found.row_counts, found.row_maxima


def total_of(
    like: Scores, scores: Scores | None, terms: PenaltyTerms, weights: Tensor | None
) -> Total:
    """The total of the rows; 0 without thresholds."""
    if scores is None or terms.row_thresholds is None:
        none = like.zeros()[:0]
        return Total(none.sum(), none.long(), none.long(), none, none)
    return scores.penalty_total(terms, weights)


@torch.no_grad()
def bounds_by(scores: Scores, ceiling: Ceiling) -> Float[Tensor, "n"]:
    """The bound over the positive of each query; inf where it has none.

    The positive is the paired candidate, or else the highest-scoring one.
    """
    own = scores.row_numbers()
    if scores.relation.paired:
        index = scores.own_positive()
    else:
        highest = Search(Selection("highest", 1), "positives", columns=False)
        index = scores.select(highest).rows[:, 0]
    found = scores.pairs(own, index)
    rounding = rounding_of(scores.comparison, found, lambda: scores.magnitudes(own, index))
    return torch.where(index >= 0, bounds_under(ceiling, found, rounding), torch.inf)
