"""Which negatives of an anchor count. To add a strategy: one value object here that says what to select."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from hardneg.ceilings import Ceiling
from hardneg.checks import check_choice, check_type, count_field, number_field, resolve_name
from hardneg.selection import Selection

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
    "resolve_negatives",
]

FALLBACKS = ("none", "easiest", "hardest")


@dataclass(frozen=True)
class All:
    """Every negative (below the ceiling, where one is given)."""

    ceiling: Ceiling | None = None

    def __post_init__(self) -> None:
        check_type("ceiling", self.ceiling, Ceiling, type(None))

    def selection(self, width: int) -> Selection | None:
        """Nothing is selected: all negatives count."""
        return None


@dataclass(frozen=True)
class Hardest:
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
        """What to ask of ``select``."""
        return Selection("highest", 1, fallback=self.fallback)


@dataclass(frozen=True)
class SemiHard:
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
        """What to ask of ``select``."""
        return Selection("highest", 1, fallback=self.fallback)


@dataclass(frozen=True)
class TopK:
    """The k hardest negatives; an anchor with fewer takes what there is (kNN-margin)."""

    k: int
    ceiling: Ceiling | None = None
    fallback: str = "none"

    def __post_init__(self) -> None:
        count_field(self, "k")
        check_choice("fallback", self.fallback, FALLBACKS)
        check_type("ceiling", self.ceiling, Ceiling, type(None))

    def selection(self, width: int) -> Selection:
        """What to ask of ``select``."""
        return Selection("highest", self.k, fallback=self.fallback)


@dataclass(frozen=True)
class RandomK:
    """k negatives drawn uniformly without replacement, by torch's generator."""

    k: int
    ceiling: Ceiling | None = None
    fallback: str = "none"

    def __post_init__(self) -> None:
        count_field(self, "k")
        check_choice("fallback", self.fallback, FALLBACKS)
        check_type("ceiling", self.ceiling, Ceiling, type(None))

    def selection(self, width: int) -> Selection:
        """What to ask of ``select``."""
        return Selection("random", self.k, fallback=self.fallback)


@dataclass(frozen=True)
class RankWindow:
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
        """What to ask of ``select``."""
        return Selection("highest", self.stop, skip=self.start, fallback=self.fallback)


@dataclass(frozen=True)
class DistanceWeighted:
    """k negatives drawn with probability inverse to the density of their distance on the unit sphere.

    Wu et al., "Sampling Matters in Deep Embedding Learning", ICCV 2017, section 4. Distances are
    taken between unit vectors: use cosine similarity, or Euclidean on normalised embeddings.

    Args:
        cutoff: shorter distances are weighted as this one, so that noise does not win.
        nonzero_loss_cutoff: negatives at this distance or farther are never drawn.
        k: how many an anchor.
    """

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
        """What to ask of ``select``; the density depends on the embeddings' width."""
        parameters = (float(width), float(self.cutoff), float(self.nonzero_loss_cutoff))
        return Selection("distance_weighted", self.k, parameters=parameters, fallback=self.fallback)


@dataclass(frozen=True)
class SelectiveHardest:
    """The hardest negative; the mean over all negatives where it is too close to the positive to tell apart.

    The guard of selectively hard negative mining (SelHN) against collapse: an anchor whose positive
    and hardest negative differ by less than ``threshold`` takes the mean hinge instead. For hinge
    losses with one positive an anchor.
    """

    ceiling: ClassVar[None] = None

    threshold: float = 0.01

    def __post_init__(self) -> None:
        number_field(self, "threshold", at_least=0)

    def selection(self, width: int) -> Selection:
        """What to ask of ``select``."""
        return Selection("highest", 1)


Negatives = (
    All | Hardest | SemiHard | TopK | RandomK | RankWindow | DistanceWeighted | SelectiveHardest
)

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
    "rank_window": "RankWindow(start, stop)",
}


def resolve_negatives(
    negatives: Negatives | str, loss: str, accepted: tuple[type, ...]
) -> Negatives:
    """A strategy from its name or object, checked against those that the loss takes.

    Raises:
        ValueError: for an unknown name, or a strategy that this loss does not take.
        TypeError: for anything else.
    """
    if isinstance(negatives, str) and negatives in WITH_ARGUMENTS:
        raise ValueError(
            f"negatives {negatives!r} needs arguments: pass the object {WITH_ARGUMENTS[negatives]}"
        )
    if isinstance(negatives, TopK | RandomK | RankWindow):
        strategy: Negatives = negatives
    else:
        strategy = resolve_name("negatives", negatives, BY_NAME)
    if not isinstance(strategy, accepted):
        raise ValueError(
            f"{loss} does not take negatives {strategy!r}: it takes "
            + ", ".join(kind.__name__ for kind in accepted)
        )
    return strategy
