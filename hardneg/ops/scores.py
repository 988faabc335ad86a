"""``Scores``: the query x candidate matrix that is never built, and what its reductions return."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, NamedTuple, Protocol

import torch
from torch import Tensor
from torch.nn.functional import pad

from hardneg.ops.comparison import Among, Comparison, Relation, finite_or_nan
from hardneg.ops.requests import (
    BatchAllTerms,
    ExponentialTerms,
    PairSearch,
    PenaltyTerms,
    Search,
    SelectedTerms,
)
from hardneg.similarities import score_dtype

if TYPE_CHECKING:
    from jaxtyping import Float, Int

__all__ = [
    "Backend",
    "BatchAll",
    "LogSumExp",
    "PenaltyGradients",
    "Scores",
    "Selected",
    "SelectedSums",
    "Sums",
    "Total",
]

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


class PenaltyGradients(NamedTuple):
    """Gradients of a weighted total of such sums; empty for what is frozen or not there."""

    queries: Float[Tensor, "n d"]
    candidates: Float[Tensor, "m d"]
    scale: Float[Tensor, ""]
    row_thresholds: Float[Tensor, "n"]
    column_thresholds: Float[Tensor, "m"]


class Total(NamedTuple):
    """A weighted total of such sums; the counts and maxima as in ``Sums``."""

    value: Float[Tensor, ""]
    row_counts: Int[Tensor, "n"]
    column_counts: Int[Tensor, "m"]
    row_maxima: Float[Tensor, "n"]
    column_maxima: Float[Tensor, "m"]


class BatchAll(NamedTuple):
    """Sums under every positive as threshold and counts of terms above 0.

    For statistics also the highest negative of each anchor, the sum of its positives' scores, and how
    many of its positives admit a negative.
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


class Scores(ABC):
    """The scores of a comparison, which only reductions over them can read.

    ``hardneg.ops.reference.DenseScores`` defines what every method returns; other classes compute the same
    without holding the matrix.

    Attributes:
        comparison: queries, candidates, similarity and relation.
    """

    comparison: Comparison

    @property
    def relation(self) -> Relation:
        """Which pairs are related."""
        return self.comparison.relation

    @property
    def shape(self) -> tuple[int, int]:
        """Numbers of queries and candidates."""
        return self.comparison.queries.shape[0], self.comparison.candidates.shape[0]

    @property
    def width(self) -> int:
        """Coordinates of an embedding."""
        return self.comparison.queries.shape[1]

    @property
    def device(self) -> torch.device:
        """Where the embeddings are."""
        return self.comparison.queries.device

    @property
    def dtype(self) -> torch.dtype:
        """The type of the scores: float64 for float64 embeddings, else float32."""
        return score_dtype(self.comparison.queries)

    @property
    def size(self) -> int:
        """How many pairs there are."""
        return self.shape[0] * self.shape[1]

    def finite(self) -> Float[Tensor, ""]:
        """1, or NaN where any embedding is NaN or infinite."""
        return finite_or_nan(self.comparison.queries, self.comparison.candidates)

    def shared_seed(self, seed: Int[Tensor, ""] | None) -> Int[Tensor, ""] | None:
        """The seed that all processes use."""
        return seed

    def row_numbers(self) -> Int[Tensor, "n"]:
        """0 ... n - 1."""
        return torch.arange(self.shape[0], device=self.device)

    def own_positive(self) -> Int[Tensor, "n"]:
        """Candidate i for query i; -1 where that pair itself is ignored, or there is no such candidate."""
        own, ignore, (n, m) = self.row_numbers(), self.relation.ignore, self.shape
        if n > m:
            own = torch.where(own < m, own, -1)
        if ignore is None:
            return own
        pairs = ignore.diagonal()[: min(n, m)]
        return torch.where(pairs if n <= m else pad(pairs, (0, n - m)), -1, own)

    def zeros(self) -> Float[Tensor, "n"]:
        """A zero for each query."""
        return torch.zeros(self.shape[0], dtype=self.dtype, device=self.device)

    @abstractmethod
    def swapped(self) -> Scores:
        """The transposed matrix: candidates against queries."""

    @abstractmethod
    def select(self, search: Search) -> Selected:
        """The first k admitted candidates of every query, and queries of every candidate."""

    @abstractmethod
    def select_per_pair(self, search: PairSearch) -> Int[Tensor, "t k"]:
        """The same for listed queries, each under a ceiling of its own."""

    @abstractmethod
    def pairs(self, rows: Int[Tensor, "..."], columns: Int[Tensor, "..."]) -> Float[Tensor, "..."]:
        """Scores of listed pairs, differentiable; 0 where an index is -1."""

    @abstractmethod
    def own_scores(self, embeddings: Float[Tensor, "n k d"]) -> Float[Tensor, "n k"]:
        """Scores of every query with k embeddings of its own, differentiable; k is at least 1."""

    @abstractmethod
    def magnitudes(
        self, rows: Int[Tensor, "..."], columns: Int[Tensor, "..."]
    ) -> Float[Tensor, "..."]:
        """What the rounding of the scores of listed pairs is proportional to, for dot and distances."""

    @abstractmethod
    def penalty_sum(self, terms: PenaltyTerms) -> Sums:
        """Sums of the terms over each anchor's admitted candidates."""

    @abstractmethod
    def penalty_total(
        self,
        terms: PenaltyTerms,
        row_weights: Float[Tensor, "n"] | None,
        column_weights: Float[Tensor, "m"] | None = None,
    ) -> Total:
        """``row_weights @ rows + column_weights @ columns`` of ``penalty_sum``.

        Weights have no gradient; every side with thresholds has weights.
        """

    @abstractmethod
    def batch_all(self, terms: BatchAllTerms) -> BatchAll:
        """Every positive of an anchor against every negative of it."""

    @abstractmethod
    def selected_penalty(self, terms: SelectedTerms) -> SelectedSums:
        """Every positive of a query against the negatives selected for it."""

    @abstractmethod
    def logsumexp(self, terms: ExponentialTerms) -> LogSumExp:
        """Log of the sum of the terms over each anchor's admitted candidates."""

    @abstractmethod
    def counts(self, among: Among) -> tuple[Int[Tensor, "n"], Int[Tensor, "m"]]:
        """How many candidates every query admits, and how many queries every candidate."""

    @abstractmethod
    def positive_pairs(self) -> tuple[Int[Tensor, "t"], Int[Tensor, "t"]]:
        """All (query, positive candidate) pairs, by query; their number is read from the device."""


class Backend(Protocol):
    """A way to compute reductions: ``Dense()``, ``Tiled()``, ``Fused()`` ..."""

    def scores(self, comparison: Comparison) -> Scores:
        """The scores of a comparison."""
