"""The negatives that a strategy selects for each anchor: windows, randomness, scores of the selected pairs."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
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
    from jaxtyping import Bool, Float, Int

    from hardneg.losses.call import Call

__all__ = [
    "NEVER",
    "Mined",
    "bound_of",
    "chosen_selection",
    "count_negatives",
    "counts_of_all",
    "flat_pairs",
    "mine",
    "mined_queries",
    "pad_candidates",
    "pair_rounding",
    "paired_search",
    "query_search",
    "seed_for",
    "window_of_negatives",
    "window_of_pairs",
]


NEVER = 1e30
"""A threshold that no score exceeds."""


@dataclass(frozen=True, eq=False, repr=False)
class Mined:
    """The selected negatives of one direction's anchors.

    Attributes:
        scores: of the selected pairs, differentiable; 0 where there is none.
        there: which places hold a negative.
        hardest: highest score among all negatives of the anchor where statistics are wanted, else the
            highest of the selected ones.
    """

    scores: Float[Tensor, "t k"]
    there: Bool[Tensor, "t k"]
    hardest: Float[Tensor, "t"]

    @classmethod
    def of(cls, scores: Float[Tensor, "..."], index: Int[Tensor, "n k"]) -> Mined:
        """From the scores of the selected pairs, listed flat."""
        scores = scores.view(index.shape)
        return cls(scores, index >= 0, scores.detach().amax(1))


def seed_for(selection: Selection, scores: Scores) -> Int[Tensor, ""] | None:
    """A seed from torch's generator for this call, where the selection is random."""
    if not selection.random:
        return None
    return torch.randint(2**31 - 1, (), device=scores.device)


def chosen_selection(call: Call) -> Selection:
    """The selection of a strategy that is known to have one."""
    selection = call.selection
    assert selection is not None
    return selection


def paired_search(call: Call, positive: Int[Tensor, "n"], selection: Selection) -> Search:
    """The search for negatives of queries and of candidates, each below the ceiling over the anchor's positive."""
    window = window_of_pairs(call, positive)
    seed = seed_for(selection, call.scores)
    wanted = call.queries, call.candidates, call.statistics
    return Search(selection, "negatives", window, seed, *wanted)


def mine(
    call: Call, positive: Int[Tensor, "n"], selection: Selection
) -> tuple[Float[Tensor, "n"], Mined | None, Mined | None]:
    """Negatives of anchors with one positive each: query i with candidate ``positive[i]``, -1 for none.

    Candidates as anchors are candidates 0 ... n - 1, paired with the queries in order.

    Returns:
        Scores of the positives, and the negatives of queries and of candidates (None where these are no
        anchors).
    """
    scores, own = call.scores, call.scores.row_numbers()
    found = scores.select(paired_search(call, positive, selection))
    of_rows, of_columns = found.rows, found.columns[: len(own)]
    lists = [(own, positive)]
    if call.queries:
        lists.append(flat_pairs(own, of_rows))
    if call.candidates:
        lists.append(flat_pairs(own, of_columns)[::-1])
    p, *others = listed_scores(scores, lists)
    queries = Mined.of(others[0], of_rows) if call.queries else None
    candidates = Mined.of(others[-1], of_columns) if call.candidates else None
    if not call.statistics:
        return p, queries, candidates
    with torch.no_grad():
        if queries is not None:
            queries = replace(queries, hardest=scores.pairs(own, found.hardest_rows[:, 0]))
        if candidates is not None:
            top = found.hardest_columns[: len(own), 0]
            candidates = replace(candidates, hardest=scores.pairs(top, own))
    return p, queries, candidates


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


@torch.no_grad()
def count_negatives(scores: Scores, window: Window) -> Int[Tensor, "n"]:
    """How many negatives of each query are in the window."""
    if window.open:
        return scores.counts("negatives")[0]
    everything = torch.full_like(scores.zeros(), -NEVER)
    return scores.penalty_sum(
        PenaltyTerms(Hinge(), everything, window=window, maxima=False)
    ).row_counts


@torch.no_grad()
def counts_of_all(call: Call, window: Window) -> tuple[Tensor, Tensor]:
    """How many negatives of each query and of each candidate are in the window."""
    if window.open:
        return call.scores.counts("negatives")
    everything = torch.full_like(call.scores.zeros(), -NEVER)
    of_columns = pad_candidates(everything, call.scores, -NEVER) if call.candidates else None
    of_rows = everything if call.queries else None
    terms = PenaltyTerms(Hinge(), of_rows, of_columns, window=window, maxima=False)
    found = call.scores.penalty_sum(terms)
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


def flat_pairs(
    anchors: Int[Tensor, "n"], index: Int[Tensor, "n k"]
) -> tuple[Int[Tensor, "nk"], Int[Tensor, "nk"]]:
    """Every anchor beside each of its selected indices, flat."""
    return anchors[:, None].expand_as(index).reshape(-1), index.reshape(-1)


def listed_scores(scores: Scores, lists: list[tuple[Tensor, Tensor]]) -> list[Float[Tensor, "..."]]:
    """Scores of several lists of pairs by one gather."""
    rows = torch.cat([r for r, _ in lists])
    columns = torch.cat([c for _, c in lists])
    return list(scores.pairs(rows, columns).split([r.shape[0] for r, _ in lists]))


def query_search(call: Call, selection: Selection, window: Window) -> Search:
    """The search for negatives of the queries, whatever their positives."""
    seed, hardest = seed_for(selection, call.scores), call.statistics
    return Search(selection, window=window, seed=seed, columns=False, hardest=hardest)


def mined_queries(call: Call, selection: Selection, window: Window = OPEN) -> Mined:
    """Negatives of the queries, whatever their positives."""
    scores, own = call.scores, call.scores.row_numbers()
    found = scores.select(query_search(call, selection, window))
    mined = Mined.of(scores.pairs(*flat_pairs(own, found.rows)), found.rows)
    if not call.statistics:
        return mined
    with torch.no_grad():
        return replace(mined, hardest=scores.pairs(own, found.hardest_rows[:, 0]))
