"""What an executor is asked for: a search, or the terms to add up for every anchor."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from torch import Tensor

from hardneg.ceilings import Ceiling
from hardneg.energies import Energy
from hardneg.ops.description import OPEN, Among, Window
from hardneg.penalties import Penalty
from hardneg.selection import Selection

if TYPE_CHECKING:
    from jaxtyping import Float, Int

__all__ = ["EVERYTHING", "ExponentialTerms", "PenaltyTerms", "Search", "SelectedTerms", "Wanted"]


class Wanted(NamedTuple):
    """Which inputs a gradient is asked for; that of a frozen one is never computed, its place is empty."""

    queries: bool = True
    candidates: bool = True
    scale: bool = True

    @property
    def embeddings(self) -> bool:
        """Whether either side is learnt."""
        return self.queries or self.candidates


EVERYTHING = Wanted()
"""Nothing is frozen."""


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
class PenaltyTerms:
    """``phi(sign * (scale * score - threshold))`` of every admitted pair in the window.

    Attributes:
        penalty: phi.
        row_thresholds, column_thresholds: one an anchor; a side without thresholds has no terms.
        among: who is admitted.
        sign: 1, or -1.
        scale: a factor of the scores; None for 1.
        window: bounds on the score, which is not scaled.
    """

    penalty: Penalty
    row_thresholds: Float[Tensor, "n"] | None
    column_thresholds: Float[Tensor, "m"] | None = None
    among: Among = "negatives"
    sign: float = 1.0
    scale: Float[Tensor, ""] | None = None
    window: Window = OPEN


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


@dataclass(frozen=True, eq=False)
class SelectedTerms:
    """A term for each (query, positive candidate) pair, over the negatives that are selected for it.

    The sum of ``phi(margin - positive + negative)``; with a scale instead of a penalty the cross-entropy
    ``log(1 + sum of exp(scale * (margin - positive + negative)))``.

    Attributes:
        penalty: phi; None with a scale.
        margin: added to each difference.
        selection: which negatives are taken.
        ceiling: only negatives below that of the pair's positive are considered; None: those of the query,
            whatever the positive.
        seed: of a random selection.
        scale: 1 / temperature.
    """

    penalty: Penalty | None
    margin: float
    selection: Selection
    ceiling: Ceiling | None = None
    seed: Int[Tensor, ""] | None = None
    scale: Float[Tensor, ""] | None = None
