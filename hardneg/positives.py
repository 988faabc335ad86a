"""Which related candidates of an anchor count as its positives."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from hardneg.checks import resolve_name

__all__ = [
    "AllPositives",
    "EasiestPositive",
    "HardestPositive",
    "Paired",
    "Positives",
    "PositivesName",
    "resolve_positives",
]


@dataclass(frozen=True)
class Paired:
    """Only candidate i of query i. Other candidates of the same id are left out, as neither."""


@dataclass(frozen=True)
class AllPositives:
    """Every candidate of the anchor's id, each a term of its own."""


@dataclass(frozen=True)
class HardestPositive:
    """The candidate of the anchor's id that scores lowest (batch-hard: Hermans et al., 2017)."""


@dataclass(frozen=True)
class EasiestPositive:
    """The candidate of the anchor's id that scores highest (easy positive: Xuan et al., WACV 2020)."""


Positives = Paired | AllPositives | HardestPositive | EasiestPositive

PositivesName = Literal["paired", "all", "hardest", "easiest"]

BY_NAME: dict[str, Positives] = {
    "paired": Paired(),
    "all": AllPositives(),
    "hardest": HardestPositive(),
    "easiest": EasiestPositive(),
}


def resolve_positives(
    positives: Positives | str, loss: str, accepted: tuple[type, ...]
) -> Positives:
    """A choice of positives from its name or object, checked against those that the loss takes.

    Raises:
        ValueError: for an unknown name, or a choice that this loss does not take.
        TypeError: for anything else.
    """
    taken = {name: choice for name, choice in BY_NAME.items() if isinstance(choice, accepted)}
    mistyped = isinstance(positives, str) and positives not in BY_NAME
    choice = resolve_name("positives", positives, taken if mistyped else BY_NAME)
    if not isinstance(choice, accepted):
        raise ValueError(
            f"{loss} does not take positives {choice!r}: it takes "
            + ", ".join(kind.__name__ for kind in accepted)
        )
    return choice
