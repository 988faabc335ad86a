"""Bounds on the scores of an anchor's negatives: windows under ceilings and in ranges, and what is in them."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from hardneg.negatives import Selection
from hardneg.ops.comparison import OPEN, Window
from hardneg.ops.requests import PenaltyTerms, Search
from hardneg.ops.rounding import Rounding, bounds_under, rounding_of
from hardneg.ops.scores import Scores
from hardneg.penalties import Hinge

if TYPE_CHECKING:
    from jaxtyping import Float, Int

    from hardneg.losses.call import Call

__all__ = [
    "NEVER",
    "bound_of",
    "count_negatives",
    "counts_of_all",
    "pad_candidates",
    "pair_rounding",
    "window_of_negatives",
    "window_of_pairs",
]

NEVER = 1e30
"""A threshold that no score exceeds."""


@torch.no_grad()
def pair_rounding(
    scores: Scores,
    anchors: Int[Tensor, "t"],
    others: Int[Tensor, "t"],
    found: Float[Tensor, "t"],
) -> Rounding:
    """How far the scores found for listed pairs may be rounded."""
    return rounding_of(scores.comparison, found, lambda: scores.magnitudes(anchors, others))


@torch.no_grad()
def bound_of(
    call: Call,
    anchors: Int[Tensor, "t"],
    positives: Int[Tensor, "t"],
    found: Float[Tensor, "t"],
) -> Float[Tensor, "t"]:
    """The bound that the strategy's ceiling sets over each listed (anchor, positive) pair with this score."""
    ceiling = call.negatives.ceiling
    assert ceiling is not None
    rounding = pair_rounding(call.scores, anchors, positives, found)
    return bounds_under(ceiling, found.detach(), rounding)


@torch.no_grad()
def window_of_negatives(call: Call) -> Window:
    """The window of each query's negatives, where a ceiling or a range of scores bounds them.

    For losses whose negatives belong to a query rather than to one of its positives: the ceiling is that of the
    paired candidate or else of the highest-scoring positive. A query without a positive has no ceiling.
    """
    scores = call.scores
    if call.negatives.ceiling is None:
        return in_range(call, OPEN, columns=False)
    own = scores.row_numbers()
    if scores.relation.paired:
        positive = call.own_positive()
    else:
        highest = Search(Selection("highest", 1), "positives", columns=False)
        positive = scores.select(highest).rows[:, 0]
    bound = bound_of(call, own, positive, scores.pairs(own, positive))
    window = Window(row_ceiling=torch.where(positive >= 0, bound, math.inf))
    return in_range(call, window, columns=False)


def count_negatives(scores: Scores, window: Window) -> Int[Tensor, "n"]:
    """How many negatives of each query are in the window."""
    return counts_in(scores, window, rows=True, columns=False)[0]


def counts_of_all(call: Call, window: Window) -> tuple[Tensor, Tensor]:
    """How many negatives of each query and of each candidate are in the window, for those that are anchors."""
    return counts_in(call.scores, window, call.queries, call.candidates)


@torch.no_grad()
def counts_in(scores: Scores, window: Window, rows: bool, columns: bool) -> tuple[Tensor, Tensor]:
    """The same of either side: what a hinge under a threshold that every score exceeds counts."""
    if window.open:
        return scores.counts("negatives")
    everything = torch.full_like(scores.zeros(), -NEVER)
    of_columns = pad_candidates(everything, scores, -NEVER) if columns else None
    of_rows = everything if rows else None
    terms = PenaltyTerms(Hinge(), of_rows, of_columns, window=window, maxima=False)
    found = scores.penalty_sum(terms)
    return found.row_counts, found.column_counts


@torch.no_grad()
def window_of_pairs(
    call: Call, positive: Int[Tensor, "n"], found: Float[Tensor, "n"] | None = None
) -> Window:
    """The window of each query's negatives and of those of the candidate paired with it: one ceiling, one range.

    Args:
        found: the scores of the positives, where they are known.
    """
    scores, window = call.scores, OPEN
    if call.negatives.ceiling is not None:
        own = scores.row_numbers()
        found = scores.pairs(own, positive) if found is None else found
        bound = bound_of(call, own, positive, found)
        # further candidates are under none
        of_columns = pad_candidates(bound, scores, math.inf) if call.candidates else None
        window = Window(row_ceiling=bound if call.queries else None, column_ceiling=of_columns)
    return in_range(call, window, call.queries, call.candidates)


def in_range(call: Call, window: Window, rows: bool = True, columns: bool = True) -> Window:
    """The window narrowed by the range that the strategy sets to the scores of all negatives."""
    strategy, scores = call.negatives, call.scores
    if not strategy.ranged:
        return window
    sides = zip((rows, columns), scores.shape, (window[:2], window[2:]), strict=True)
    bounds: list[Tensor | None] = []
    for wanted, length, (floor, ceiling) in sides:
        like = scores.zeros().new_zeros(length) if wanted else None
        bounds.append(narrowed(floor, strategy.min_score, like, torch.maximum))
        bounds.append(narrowed(ceiling, strategy.max_score, like, torch.minimum))
    return Window(*bounds)


def narrowed(
    bound: Tensor | None,
    limit: float | None,
    like: Tensor | None,
    narrower: Callable[[Tensor, Tensor], Tensor],
) -> Tensor | None:
    """The bounds of one side, and a number that bounds them all; ``like`` is None for a side without anchors."""
    if limit is None or like is None:
        return bound
    of_all = torch.full_like(like, limit)
    return of_all if bound is None else narrower(bound, of_all)


def pad_candidates(
    of_paired: Float[Tensor, "n"], scores: Scores, fill: float
) -> Float[Tensor, "m"]:
    """A number for each candidate: those of the paired ones, then ``fill`` for the further ones."""
    further = scores.shape[1] - of_paired.shape[0]
    return torch.cat([of_paired, of_paired.new_full((further,), fill)])
