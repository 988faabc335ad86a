"""Which of two recipes is ahead, with the uncertainty that a few seeds leave."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import combinations
from statistics import mean, stdev, variance
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


Scores = dict[int, float]
"""The rsum of each seed."""
Scored = tuple[str, Scores]


class Difference(NamedTuple):
    """How far two means of rsum lie apart, and the 95 % interval around it: ``apart - half`` to
    ``apart + half``.
    """

    apart: float
    half: float


def difference(ours: Sequence[float], theirs: Sequence[float]) -> Difference:
    """Welch's interval: the two spreads need not be equal, nor the numbers of seeds. Degrees of
    freedom are rounded down, so the interval is rather too wide.
    """
    apart = mean(ours) - mean(theirs)
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


def paired(ours: Scores, theirs: Scores) -> Difference:
    """The interval of the differences seed by seed. Runs of one seed share the order of their
    batches, and as a rule their first weights and a warm-up, so the seed moves both alike.
    """
    apart = [ours[seed] - theirs[seed] for seed in ours]
    half = STUDENT[min(len(apart) - 1, len(STUDENT)) - 1] * stdev(apart) / math.sqrt(len(apart))
    return Difference(mean(apart), half)


def verdicts(runs: Sequence[Run]) -> list[str]:
    """A sentence for each pair of recipes under each protocol that both have."""
    protocols = dict.fromkeys(protocol for run in runs for protocol in run.result["results"])
    return [
        verdict(*pair, "" if len(protocols) == 1 else f"{protocol}: ")
        for protocol in protocols
        for pair in pairs(scores(runs, protocol))
    ]


def scores(runs: Sequence[Run], protocol: str) -> dict[str, Scores]:
    """The rsum of every run under a protocol, by recipe and seed; a seed that was run twice counts
    by its last run.
    """
    found: dict[str, Scores] = {}
    for run in runs:
        if protocol in run.result["results"]:
            of_recipe = found.setdefault(run.label, {})
            of_recipe[run.settings.schedule.seed] = run.retrieval(protocol).rsum
    return found


def pairs(found: dict[str, Scores]) -> list[tuple[Scored, Scored]]:
    """The recipes to compare, the better one of a pair first."""
    ranked = sorted(found.items(), key=lambda one: -mean(one[1].values()))
    if len(ranked) <= MOST_RECIPES:
        return [*combinations(ranked, 2)]
    return [(ranked[0], other) for other in ranked[1:]]


def verdict(better: Scored, other: Scored, about: str) -> str:
    """Whether the first of two recipes is ahead, in words."""
    (name, ours), (less, theirs) = better, other
    if min(len(ours), len(theirs)) < 2:
        apart = mean(ours.values()) - mean(theirs.values())
        return (
            f"{about}{name} has {apart:.1f} rsum more than {less}, which decides nothing: a recipe "
            "with one seed only says nothing of how far its seeds lie apart. Within one seed the two "
            "are equal; --seed 0 1 2 trains three"
        )
    same = ours.keys() == theirs.keys()
    found = paired(ours, theirs) if same else difference([*ours.values()], [*theirs.values()])
    apart, half = found
    seeds = f"{len(ours)} seeds, seed by seed" if same else f"{len(ours)} and {len(theirs)} seeds"
    interval = f"{apart - half:.1f} to {apart + half:.1f}".replace("-", "\u2212")
    known = f"95 % interval {interval}, {seeds}"
    if apart > half:
        return f"{about}{name} is ahead of {less} by {apart:.1f} rsum ({known})"
    return f"{about}{name} and {less} cannot be told apart: {apart:.1f} rsum between them ({known})"
