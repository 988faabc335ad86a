"""Requests to ``Scores``: a search, or the terms to add up for every anchor."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor

from hardneg.negatives import Ceiling, Selection
from hardneg.ops.comparison import OPEN, Among, Window
from hardneg.ops.energies import Energy
from hardneg.penalties import Penalty

if TYPE_CHECKING:
    from jaxtyping import Float, Int

__all__ = [
    "EVERYTHING",
    "UNWEIGHTED",
    "BatchAllTerms",
    "Engine",
    "ExponentialTerms",
    "PairSearch",
    "PenaltyTerms",
    "Search",
    "SelectedTerms",
    "Wanted",
    "Weights",
]


@dataclass(frozen=True, eq=False)
class Search:
    """The first k admitted candidates of every query, and queries of every candidate.

    Attributes:
        selection: which come first, and how many are taken.
        among: who is admitted.
        window: bounds on the score.
        seed: of a random selection.
        rows, columns: which sides search.
        hardest: whether the highest-scoring admitted one of each anchor is wanted too, whatever the
            selection and the window.
    """

    selection: Selection
    among: Among = "negatives"
    window: Window = OPEN
    seed: Int[Tensor, ""] | None = None
    rows: bool = True
    columns: bool = True
    hardest: bool = False


@dataclass(frozen=True, eq=False)
class PairSearch:
    """The first k negatives of listed queries, each below a ceiling of its own.

    Attributes:
        anchors: numbers of the queries, rising.
        ceilings: one bound on the score for each of them.
        selection: which come first, and how many are taken.
        seed: of a random selection.
        score_range: all negatives' scores lie strictly between these two numbers, whatever the positive's; empty for no
            bounds.
    """

    anchors: Int[Tensor, "t"]
    ceilings: Float[Tensor, "t"]
    selection: Selection
    seed: Int[Tensor, ""] | None = None
    score_range: tuple[float, ...] = ()

    @property
    def bounds(self) -> tuple[Tensor | None, Tensor]:
        """Floor and ceiling of each listed query's negatives."""
        if not self.score_range:
            return None, self.ceilings
        floor, ceiling = (torch.full_like(self.ceilings, bound) for bound in self.score_range)
        return floor, torch.minimum(self.ceilings, ceiling)


@dataclass(frozen=True, eq=False)
class PenaltyTerms:
    """``phi(sign * (scale * score - threshold))`` of every admitted pair in the window.

    Attributes:
        penalty: phi.
        row_thresholds, column_thresholds: one an anchor; a side without thresholds has no terms.
        among: who is admitted.
        sign: 1, or -1.
        scale: a factor of the scores; None for 1.
        window: bounds on the score, which is not scaled.
        maxima: whether the largest argument of each anchor is wanted; else -inf stands for it.
    """

    penalty: Penalty
    row_thresholds: Float[Tensor, "n"] | None
    column_thresholds: Float[Tensor, "m"] | None = None
    among: Among = "negatives"
    sign: float = 1.0
    scale: Float[Tensor, ""] | None = None
    window: Window = OPEN
    maxima: bool = True


@dataclass(frozen=True, eq=False)
class BatchAllTerms:
    """``phi(s[i, c] - s[i, p] + margin)`` of every positive p and negative c of every query i.

    Attributes:
        penalty: phi.
        margin: added to the difference.
        ceiling: of the negatives' scores, relative to each positive's; None: all negatives.
        per_pair: one sum for each (query, positive) pair instead of one for each query.
        total: one sum over all queries.
        score_range: all negatives' scores lie strictly between these two numbers, whatever the positive's; empty for no
            bounds.
    """

    penalty: Penalty
    margin: float
    ceiling: Ceiling | None = None
    per_pair: bool = False
    total: bool = False
    score_range: tuple[float, ...] = ()


@dataclass(frozen=True, eq=False)
class SelectedTerms:
    """A term for each (query, positive candidate) pair, over the negatives that are selected for it.

    The sum of ``phi(margin - positive + negative)``; with a scale instead of a penalty the cross-entropy
    ``log(1 + sum of exp(scale * (margin - positive + negative)))``.

    Attributes:
        selection: which negatives are taken.
        margin: added to each difference.
        penalty: phi; None with a scale.
        scale: 1 / temperature.
        ceiling: only negatives below that of the pair's positive are considered; None: those of the query,
            whatever the positive.
        seed: of a random selection.
        per_pair: one term for each (query, positive) pair instead of one sum for each query.
        total: one sum over all queries.
        score_range: all negatives' scores lie strictly between these two numbers, whatever the positive's; empty for no
            bounds.
    """

    selection: Selection
    margin: float
    penalty: Penalty | None = None
    scale: Float[Tensor, ""] | None = None
    ceiling: Ceiling | None = None
    seed: Int[Tensor, ""] | None = None
    per_pair: bool = False
    total: bool = False
    score_range: tuple[float, ...] = ()

    def search(self, like: Float[Tensor, "n"]) -> Search:
        """For the negatives of each query where there is no ceiling; ``like``: a number for each query."""
        window = rows_in_range(self.score_range, like)
        return Search(self.selection, window=window, seed=self.seed, columns=False)


@dataclass(frozen=True, eq=False)
class ExponentialTerms:
    """``exp(scale * energy(score))`` of every admitted pair in the window.

    Attributes:
        energy: what the exponent is of the score.
        among: who is admitted.
        scale: a factor of the exponents; None for 1.
        window: bounds on the score itself.
        rows, columns: which sides have terms.
    """

    energy: Energy
    among: Among = "negatives"
    scale: Float[Tensor, ""] | None = None
    window: Window = OPEN
    rows: bool = True
    columns: bool = True


def rows_in_range(score_range: tuple[float, ...], like: Float[Tensor, "n"]) -> Window:
    """The window of rows whose scores lie between two numbers; open where there are none."""
    if not score_range:
        return OPEN
    floor, ceiling = (like.new_full(like.shape, bound) for bound in score_range)
    return Window(floor, ceiling)


class Weights(NamedTuple):
    """A weight for the sum of each row and of each column; None for a side without."""

    rows: Float[Tensor, "n"] | None = None
    columns: Float[Tensor, "m"] | None = None


UNWEIGHTED = Weights()
"""No weights: sums without gradients."""


class Wanted(NamedTuple):
    """Inputs whose gradient is needed; that of a frozen one is never computed, its place is empty."""

    queries: bool = True
    candidates: bool = True
    scale: bool = True

    @property
    def embeddings(self) -> bool:
        """Whether either side is learned."""
        return self.queries or self.candidates


EVERYTHING = Wanted()
"""Nothing is frozen."""


@dataclass(frozen=True)
class Engine:
    """How a reduction runs: a request like others.

    Attributes:
        tile: rows and columns of a tile; empty for the device's default.
        fused: whether a kernel computes it, where it has one.
        one_set: whether scores are symmetric and asked for by rows alone, of one tensor on both sides: kernels may
            compute a triangle of them, and the gradient is that of the queries.
    """

    tile: tuple[int, ...] = ()
    fused: bool = False
    one_set: bool = False

    def wanted(self, queries: bool, candidates: bool, scale: bool) -> Wanted:
        """The gradients that are computed, of those that are asked for."""
        return Wanted(queries, candidates and not self.one_set, scale)

    @property
    def tile_size(self) -> tuple[int, int] | None:
        """Rows and columns of a tile, None for the default."""
        return (self.tile[0], self.tile[1]) if self.tile else None
