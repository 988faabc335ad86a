"""Which negatives of an anchor count. To add a strategy: one value object here that says what to select."""

from __future__ import annotations

import difflib
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from hardneg.checks import check_choice, check_type, count_field, number_field
from hardneg.negatives.ceiling import Ceiling
from hardneg.negatives.selection import Selection

__all__ = [
    "All",
    "DistanceWeighted",
    "Hardest",
    "Negatives",
    "NegativesName",
    "RandomK",
    "RankWindow",
    "SelectiveHardest",
    "SemiHard",
    "TopK",
    "resolve_negatives",
]

FALLBACKS = ("none", "easiest", "hardest")


class Negatives(ABC):
    """Base of the strategies, and of your own: a frozen dataclass that says what to select.

    Attributes:
        ceiling: a bound on the scores of negatives, relative to the positive's; None for none.
        complete: whether all negatives count, so that nothing is selected.
        needs_distance: whether it needs distances between unit vectors.
        mean_if_closer: an anchor whose positive and hardest negative differ by less takes the mean over all
            negatives instead (hinge losses with one positive an anchor only); None for never.
    """

    ceiling: Ceiling | None = None
    complete: ClassVar[bool] = False
    needs_distance: ClassVar[bool] = False

    @property
    def mean_if_closer(self) -> float | None:
        """Never, but for strategies that say so."""
        return None

    @property
    def needs_positive(self) -> bool:
        """Whether negatives are compared with the positive's score."""
        return self.ceiling is not None

    @abstractmethod
    def selection(self, width: int) -> Selection | None:
        """What to ask of ``select`` for embeddings of this width; None where all negatives count."""


@dataclass(frozen=True)
class All(Negatives):
    """Every negative (below the ceiling, where one is given)."""

    complete: ClassVar[bool] = True

    ceiling: Ceiling | None = None

    def __post_init__(self) -> None:
        check_type("ceiling", self.ceiling, Ceiling, type(None))

    def selection(self, width: int) -> Selection | None:
        """None: all negatives count."""
        return None


@dataclass(frozen=True)
class Hardest(Negatives):
    """The negative that scores highest (VSE++; batch-hard).

    Args:
        ceiling: only negatives below it are considered.
        fallback: what an anchor without such a negative takes: ``"none"`` (contributes 0),
            ``"easiest"`` (its lowest-scoring negative) or ``"hardest"``, the ceiling disregarded.
    """

    ceiling: Ceiling | None = None
    fallback: str = "none"

    def __post_init__(self) -> None:
        check_choice("fallback", self.fallback, FALLBACKS)
        check_type("ceiling", self.ceiling, Ceiling, type(None))

    def selection(self, width: int) -> Selection:
        """See ``Negatives``."""
        return Selection("highest", 1, fallback=self.fallback)


@dataclass(frozen=True)
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
        check_choice("fallback", self.fallback, FALLBACKS)
        check_type("ceiling", self.ceiling, Ceiling)

    def selection(self, width: int) -> Selection:
        """See ``Negatives``."""
        return Selection("highest", 1, fallback=self.fallback)


@dataclass(frozen=True)
class TopK(Negatives):
    """The k hardest negatives; an anchor with fewer takes what there is (kNN-margin)."""

    k: int
    ceiling: Ceiling | None = None
    fallback: str = "none"

    def __post_init__(self) -> None:
        count_field(self, "k")
        check_choice("fallback", self.fallback, FALLBACKS)
        check_type("ceiling", self.ceiling, Ceiling, type(None))

    def selection(self, width: int) -> Selection:
        """See ``Negatives``."""
        return Selection("highest", self.k, fallback=self.fallback)


@dataclass(frozen=True)
class RandomK(Negatives):
    """k negatives drawn uniformly without replacement, by torch's generator."""

    k: int
    ceiling: Ceiling | None = None
    fallback: str = "none"

    def __post_init__(self) -> None:
        count_field(self, "k")
        check_choice("fallback", self.fallback, FALLBACKS)
        check_type("ceiling", self.ceiling, Ceiling, type(None))

    def selection(self, width: int) -> Selection:
        """See ``Negatives``."""
        return Selection("random", self.k, fallback=self.fallback)


@dataclass(frozen=True)
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
        check_choice("fallback", self.fallback, FALLBACKS)
        check_type("ceiling", self.ceiling, Ceiling, type(None))

    def selection(self, width: int) -> Selection:
        """See ``Negatives``."""
        return Selection("highest", self.stop, skip=self.start, fallback=self.fallback)


@dataclass(frozen=True)
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
        check_choice("fallback", self.fallback, FALLBACKS)
        check_type("ceiling", self.ceiling, Ceiling, type(None))

    def selection(self, width: int) -> Selection:
        """See ``Negatives``; the density depends on the width."""
        parameters = (float(width), float(self.cutoff), float(self.nonzero_loss_cutoff))
        return Selection("distance_weighted", self.k, parameters=parameters, fallback=self.fallback)


@dataclass(frozen=True)
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

    def selection(self, width: int) -> Selection:
        """See ``Negatives``."""
        return Selection("highest", 1)


NegativesName = Literal["all", "hardest", "semihard", "distance_weighted", "selective_hardest"]

BY_NAME: dict[str, Negatives] = {
    "all": All(),
    "hardest": Hardest(),
    "semihard": SemiHard(),
    "distance_weighted": DistanceWeighted(),
    "selective_hardest": SelectiveHardest(),
}
WITH_ARGUMENTS: dict[str, str] = {
    "topk": "TopK(k)",
    "randomk": "RandomK(k)",
    "rankwindow": "RankWindow(start, stop)",
}


def plain(name: str) -> str:
    """A name without case, hyphens and underscores: ``"semi-hard"`` is ``"semihard"``."""
    return name.lower().replace("-", "").replace("_", "")


def resolve_negatives(negatives: Any) -> Negatives:
    """A strategy from its name, or the object itself.

    Raises:
        ValueError: for an unknown name.
        TypeError: for what is no strategy.
    """
    if isinstance(negatives, str):
        known = {plain(name): strategy for name, strategy in BY_NAME.items()}
        name = plain(negatives)
        if name in known:
            return known[name]
        if name in WITH_ARGUMENTS:
            raise ValueError(
                f"negatives {negatives!r} needs arguments: pass the object {WITH_ARGUMENTS[name]}"
            )
        near = difflib.get_close_matches(name, known, n=1)
        meant = [f" (did you mean {other!r}?)" for other in BY_NAME if plain(other) in near]
        raise ValueError(
            f"unknown negatives {negatives!r}{''.join(meant)}: choose one of "
            f"{', '.join(sorted(BY_NAME))}, or {', '.join(WITH_ARGUMENTS.values())}"
        )
    if isinstance(negatives, type) or not isinstance(negatives, Negatives):
        raise TypeError(
            f"negatives is {negatives!r} of type {type(negatives).__name__}: expected a name "
            f"({', '.join(sorted(BY_NAME))}) or a strategy object such as Hardest(); strategies of your "
            "own are subclasses of hardneg.negatives.Negatives"
        )
    return negatives
