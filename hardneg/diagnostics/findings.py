"""``findings_of``: what is wrong, in words."""

from __future__ import annotations

import math
from collections.abc import Sequence

from hardneg.diagnostics.observation import Observation

__all__ = ["findings_of"]

LOOKS = 3
"""How many looks in a row a plateau is one: the first steps of a training stand on it."""
SKEWED = 3.0
"""Skewness of k-occurrences from which hubs are told; random rows of a few hundred dimensions come to 1 or 2."""
ENTIRE = 0.5
"""Share of the queries that have the largest hub among their neighbours, from which it is told."""


def findings_of(history: Sequence[Observation]) -> list[str]:
    """What is wrong by the last looks; empty where nothing is, or nothing was looked at."""
    if not history:
        return []
    unfit = not_finite(history[-1]) or nothing_compared(history[-1])
    if unfit:
        return [unfit]
    return [x for x in (collapse(history), plateau(history), hubs(history)) if x]


def not_finite(seen: Observation) -> str:
    """The embeddings of a look are no numbers, which makes the statistics NaN."""
    if not math.isnan(seen.active_share):
        return ""
    return (
        f"step {seen.step}: embeddings are NaN or infinite: look at the inputs, at the learning rate, and at what "
        "half precision cannot hold"
    )


def nothing_compared(seen: Observation) -> str:
    """No anchor of a look has both a positive and a negative: the statistics are of no terms."""
    if not seen.positive_mean == seen.hardest_negative_mean == seen.active_share == 0:
        return ""
    return (
        f"step {seen.step}: no anchor has both a positive and a negative: draw several rows of several classes "
        "(hardneg.training.ClassBatches), or look at ids and masks"
    )


def collapse(history: Sequence[Observation]) -> str:
    """The embeddings of the last look have collapsed."""
    seen = history[-1]
    if not seen.collapsed:
        return ""
    sides = {"queries": seen.queries, "candidates": seen.candidates}
    told = [
        f"{name} have mean cosine {x.mean_cosine:.3f} and effective rank {x.effective_rank:.1f}"
        for name, x in sides.items()
        if x is not None
    ]
    return (
        f"step {seen.step}: the embeddings have collapsed ({', '.join(told)}): take a lower learning rate, a warm-up "
        "with all negatives, SelectiveHardest() or SemiHard()"
    )


def plateau(history: Sequence[Observation]) -> str:
    """The loss of the last looks stands where it tells no pair from another."""
    last = history[-LOOKS:]
    if len(last) < LOOKS or not all(seen.on_plateau for seen in last):
        return ""
    return (
        f"step {last[0].step} to {last[-1].step}: the loss, {last[-1].loss:.4g}, stands where it would with every row "
        "at the mean of its side: no pair is told from another; begin with all negatives (Warmup), or take easier ones"
    )


def hubs(history: Sequence[Observation]) -> str:
    """A few candidates are near to a great part of the queries."""
    seen = history[-1]
    found, queries = seen.hubs, int(seen.hubs.occurrences.sum()) // seen.hubs.k
    few = found.k * 4 <= len(found.occurrences)
    if not few or (found.skewness < SKEWED and found.largest < ENTIRE * queries):
        return ""
    return (
        f"step {seen.step}: hubs: candidate {int(found.hubs(1))} is among the {found.k} nearest of {found.largest} of "
        f"{queries} queries (skewness {found.skewness:.1f}, {found.antihub_share:.0%} of the candidates are near to "
        "none): look at it, and choose by RankWindow or TopK(k) instead of the hardest one"
    )
