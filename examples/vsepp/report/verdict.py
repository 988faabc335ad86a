"""Which of two recipes is ahead, with the uncertainty that a few seeds leave."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import combinations
from statistics import mean, variance
from typing import NamedTuple

from vsepp.report.finished import Run

MOST_RECIPES = 4
"""Up to so many recipes every pair is compared; of more, each with the best."""
STUDENT = (
    *(12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228),
    *(2.201, 2.179, 2.160, 2.145, 2.131, 2.120, 2.110, 2.101, 2.093, 2.086),
    *(2.080, 2.074, 2.069, 2.064, 2.060, 2.056, 2.052, 2.048, 2.045, 2.042),
)
"""The 97.5 % quantiles of Student's t at 1 to 30 degrees of freedom."""


class Difference(NamedTuple):
    """How far two means of rsum lie apart, and the 95 % interval around it: ``apart - half`` to
    ``apart + half``; infinite where a side has one seed.
    """

    apart: float
    half: float


def difference(ours: Sequence[float], theirs: Sequence[float]) -> Difference:
    """Welch's interval: the two spreads need not be equal, nor the numbers of seeds. Degrees of
    freedom are rounded down, so the interval is rather too wide.
    """
    apart = mean(ours) - mean(theirs)
    if min(len(ours), len(theirs)) < 2:
        return Difference(apart, math.inf)
    shares = [variance(one) / len(one) for one in (ours, theirs)]
    error = sum(shares)
    if error == 0:
        return Difference(apart, 0.0)
    parts = (
        (share / error) ** 2 / (len(one) - 1)
        for share, one in zip(shares, (ours, theirs), strict=True)
    )
    freedom = max(1, int(1 / sum(parts) + 1e-9))
    return Difference(apart, STUDENT[min(freedom, len(STUDENT)) - 1] * math.sqrt(error))


def verdicts(runs: Sequence[Run]) -> list[str]:
    """A sentence for each pair of recipes under each protocol that both have."""
    protocols = dict.fromkeys(protocol for run in runs for protocol in run.result["results"])
    return [
        verdict(*pair, "" if len(protocols) == 1 else f"{protocol}: ")
        for protocol in protocols
        for pair in pairs(scores(runs, protocol))
    ]


def scores(runs: Sequence[Run], protocol: str) -> dict[str, list[float]]:
    """The rsum of every run under a protocol, by recipe."""
    found: dict[str, list[float]] = {}
    for run in runs:
        if protocol in run.result["results"]:
            found.setdefault(run.label, []).append(run.retrieval(protocol).rsum)
    return found


Scored = tuple[str, list[float]]


def pairs(found: dict[str, list[float]]) -> list[tuple[Scored, Scored]]:
    """The recipes to compare, the better one of a pair first."""
    ranked = sorted(found.items(), key=lambda one: -mean(one[1]))
    if len(ranked) <= MOST_RECIPES:
        return [*combinations(ranked, 2)]
    return [(ranked[0], other) for other in ranked[1:]]


def verdict(better: Scored, other: Scored, about: str) -> str:
    """Whether the first of two recipes is ahead, in words."""
    (name, ours), (less, theirs) = better, other
    apart, half = difference(ours, theirs)
    if math.isinf(half):
        return (
            f"{about}{name} has {apart:.1f} rsum more than {less}, which decides nothing: a recipe "
            "with one seed only says nothing of how far its seeds lie apart. Within one seed the two "
            "are equal; --seed 0 1 2 trains three"
        )
    interval = f"{apart - half:.1f} to {apart + half:.1f}".replace("-", "\u2212")
    known = f"95 % interval {interval}, {len(ours)} and {len(theirs)} seeds"
    if apart > half:
        return f"{about}{name} is ahead of {less} by {apart:.1f} rsum ({known})"
    return f"{about}{name} and {less} cannot be told apart: {apart:.1f} rsum between them ({known})"
