"""Which negatives of an anchor count. To add a strategy: one value object here that says what to select."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar

from hardneg.checks import check_choice, check_type, count_field, number_field
from hardneg.negatives.ceiling import Ceiling
from hardneg.negatives.score_range import ScoreRange
from hardneg.negatives.selection import Selection

__all__ = [
    "All",
    "DistanceWeighted",
    "Hardest",
    "Negatives",
    "RandomK",
    "RankWindow",
    "SelectiveHardest",
    "SemiHard",
    "TopK",
]

FALLBACKS = ("none", "easiest", "hardest")


class Negatives(ScoreRange, ABC):
    """Base of the strategies, and of your own: a frozen dataclass that says what to select.

    Every strategy takes ``min_score`` and ``max_score`` by name: only negatives whose score lies strictly between are
    considered, such as ``TopK(8, max_score=0.9)``. An anchor without such a negative takes the fallback.

    Attributes:
        min_score, max_score: bounds on the scores of negatives, whatever the positive's; None for none.
        ceiling: a bound on the scores of negatives, relative to the positive's; None for none.
        complete: whether all negatives count, so that nothing is selected.
        needs_distance: whether it needs distances between unit vectors.
        mean_if_closer: an anchor whose positive and hardest negative differ by less takes the mean over all
            negatives instead (hinge losses with one positive an anchor only); None for never.
    """

    ceiling: Ceiling | None = None
    complete: ClassVar[bool] = False
    needs_distance: ClassVar[bool] = False

    def __post_init__(self) -> None:
        check_type("ceiling", self.ceiling, Ceiling, type(None))
        check_choice("fallback", getattr(self, "fallback", "none"), FALLBACKS)
        self.check_range()

    @property
    def mean_if_closer(self) -> float | None:
        """Never, but for strategies that say so."""
        return None

    @property
    def needs_positive(self) -> bool:
        """Whether negatives are compared with the positive's score."""
        return self.ceiling is not None

    @property
    def bounded(self) -> bool:
        """Whether a ceiling or a range bounds the scores of negatives."""
        return self.ceiling is not None or self.ranged

    @abstractmethod
    def selection(self, width: int) -> Selection | None:
        """What to ask of ``select`` for embeddings of this width; None where all negatives count."""


@dataclass(frozen=True, repr=False)
class All(Negatives):
    """Every negative (below the ceiling, where one is given)."""

    complete: ClassVar[bool] = True

    ceiling: Ceiling | None = None

    def selection(self, width: int) -> Selection | None:
        """None: all negatives count."""
        return None


@dataclass(frozen=True, repr=False)
class Hardest(Negatives):
    """The negative that scores highest (VSE++; batch-hard).

    Args:
        ceiling: only negatives below it are considered.
        fallback: what an anchor without such a negative takes: ``"none"`` (contributes 0),
            ``"easiest"`` (its lowest-scoring negative) or ``"hardest"``, the ceiling disregarded.
    """

    ceiling: Ceiling | None = None
    fallback: str = "none"

    def selection(self, width: int) -> Selection:
        """See ``Negatives``."""
        return Selection("highest", 1, fallback=self.fallback)


@dataclass(frozen=True, repr=False)
class SemiHard(Negatives):
    """The hardest negative that scores below the positive (FaceNet: Schroff et al., CVPR 2015).

    Args:
        fallback: what to take where no negative scores below the positive: ``"easiest"`` (the
            lowest-scoring negative, the common convention), ``"hardest"`` or ``"none"``.
        ceiling: another bound than the positive's score.
    """

    fallback: str = "easiest"
    ceiling: Ceiling = Ceiling()

    def __post_init__(self) -> None:
        super().__post_init__()
        check_type("ceiling", self.ceiling, Ceiling)

    def selection(self, width: int) -> Selection:
        """See ``Negatives``."""
        return Selection("highest", 1, fallback=self.fallback)


@dataclass(frozen=True, repr=False)
class TopK(Negatives):
    """The k hardest negatives; an anchor with fewer takes what there is (kNN-margin)."""

    k: int
    ceiling: Ceiling | None = None
    fallback: str = "none"

    def __post_init__(self) -> None:
        count_field(self, "k")
        super().__post_init__()

    def selection(self, width: int) -> Selection:
        """See ``Negatives``."""
        return Selection("highest", self.k, fallback=self.fallback)


@dataclass(frozen=True, repr=False)
class RandomK(Negatives):
    """k negatives drawn uniformly without replacement, by torch's generator."""

    k: int
    ceiling: Ceiling | None = None
    fallback: str = "none"

    def __post_init__(self) -> None:
        count_field(self, "k")
        super().__post_init__()

    def selection(self, width: int) -> Selection:
        """See ``Negatives``."""
        return Selection("random", self.k, fallback=self.fallback)


@dataclass(frozen=True, repr=False)
class RankWindow(Negatives):
    """The negatives of ranks ``start`` (included) to ``stop`` (excluded), 0 the hardest.

    Leaving out the very hardest guards against unlabelled positives.
    """

    start: int
    stop: int
    ceiling: Ceiling | None = None
    fallback: str = "none"

    def __post_init__(self) -> None:
        count_field(self, "start", at_least=0)
        count_field(self, "stop", at_least=self.start + 1)
        super().__post_init__()

    def selection(self, width: int) -> Selection:
        """See ``Negatives``."""
        return Selection("highest", self.stop, skip=self.start, fallback=self.fallback)


@dataclass(frozen=True, repr=False)
class DistanceWeighted(Negatives):
    """k negatives drawn with probability inverse to the density of their distance on the unit sphere.

    Wu et al., "Sampling Matters in Deep Embedding Learning", ICCV 2017, section 4. Distances are
    taken between unit vectors: use cosine similarity, or Euclidean on normalised embeddings.

    Args:
        cutoff: shorter distances are weighted as this one, so that noise does not win.
        nonzero_loss_cutoff: negatives at this distance or farther are never drawn.
        k: how many an anchor.
    """

    needs_distance: ClassVar[bool] = True

    cutoff: float = 0.5
    nonzero_loss_cutoff: float = 1.4
    k: int = 1
    ceiling: Ceiling | None = None
    fallback: str = "none"

    def __post_init__(self) -> None:
        number_field(self, "cutoff", above=0, at_most=2)
        number_field(self, "nonzero_loss_cutoff", above=0)
        count_field(self, "k")
        super().__post_init__()

    def selection(self, width: int) -> Selection:
        """See ``Negatives``; the density depends on the width."""
        parameters = (float(width), float(self.cutoff), float(self.nonzero_loss_cutoff))
        return Selection("distance_weighted", self.k, parameters=parameters, fallback=self.fallback)


@dataclass(frozen=True, repr=False)
class SelectiveHardest(Negatives):
    """The hardest negative; the mean over all negatives where it is too close to the positive to tell apart.

    The guard of selectively hard negative mining (SelHN) against collapse: an anchor whose positive
    and hardest negative differ by less than ``threshold`` takes the mean hinge instead. For hinge
    losses with one positive an anchor.
    """

    threshold: float = 0.01

    @property
    def mean_if_closer(self) -> float:
        """The threshold."""
        return self.threshold

    def __post_init__(self) -> None:
        number_field(self, "threshold", at_least=0)
        super().__post_init__()

    def selection(self, width: int) -> Selection:
        """See ``Negatives``."""
        return Selection("highest", 1)
