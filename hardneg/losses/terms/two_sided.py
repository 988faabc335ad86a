"""Terms with a log-sum-exp on both sides: over an anchor's positives and over its negatives."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from hardneg.losses.mined import MinedTerms
from hardneg.losses.terms.choices import choices_of_queries, mined_terms
from hardneg.losses.terms.mining import chosen_selection, mined_queries, query_search, seed_for
from hardneg.losses.terms.reduction import Terms
from hardneg.losses.terms.softmax import EMPTY, mean_positive
from hardneg.losses.terms.windows import pair_rounding, window_of_negatives
from hardneg.negatives import Selection
from hardneg.negatives.selection import with_fallback
from hardneg.ops.comparison import OPEN, Window
from hardneg.ops.energies import Energy
from hardneg.ops.requests import ExponentialTerms, Search
from hardneg.ops.scores import Scores

if TYPE_CHECKING:
    from jaxtyping import Float, Int

    from hardneg.losses.call import Call

__all__ = ["TwoSided", "two_sided_choices", "two_sided_terms"]


@dataclass(frozen=True, eq=False)
class TwoSided:
    """``combine(logsumexp over positives, logsumexp over chosen negatives)`` of an anchor that has both.

    Attributes:
        positive, negative: energies of the exponents.
        combine: of the two log-sum-exps (``EMPTY`` for an empty sum).
        epsilon: only positives below the hardest negative + epsilon, and negatives above the hardest
            positive - epsilon, take part; None: all.
    """

    positive: Energy
    negative: Energy
    combine: Callable[[Tensor, Tensor], Tensor]
    epsilon: float | None = None


def two_sided_terms(call: Call, equation: TwoSided) -> Terms:
    """The terms of every query."""
    scores, epsilon, selection = call.scores, equation.epsilon, call.selection
    fallback = "none" if selection is None else selection.fallback
    window = window_of_negatives(call)
    positives, _ = scores.counts("positives")
    positive, hardest_positive = extreme(scores, "positives", "lowest")
    negative, hardest_negative = extreme(scores, "negatives", "highest", window, fallback)
    positive_window, negative_window, fallen = OPEN, window, None
    if epsilon is not None:
        own = scores.row_numbers()
        if selection is not None and fallback != "none":
            fallen = fallback_of(call, selection, window)
            negative = torch.where(fallen >= 0, fallen, negative)
            hardest_negative = scores.pairs(own, negative).detach()
        rounding = pair_rounding(scores, own, negative, hardest_negative)
        positive_window = Window(row_ceiling=rounding.below(hardest_negative + epsilon))
        floor = floor_of(call, positive, hardest_positive, epsilon)
        negative_window = above(window, floor)
        if fallen is not None:
            fallen = torch.where(hardest_negative > floor, fallen, -1)
    terms = ExponentialTerms(equation.positive, "positives", window=positive_window, columns=False)
    of_positives = scores.logsumexp(terms).rows
    of_negatives = negative_logsumexp(call, equation.negative, negative_window, fallen)
    valid = (negative >= 0) & (positives > 0)
    combined = equation.combine(at_least_empty(of_positives), at_least_empty(of_negatives))
    active = valid.long()
    mean = mean_positive(call, positives) if call.statistics else hardest_positive
    return Terms(torch.where(valid, combined, 0.0), valid, active, active, mean, hardest_negative)


def floor_of(
    call: Call, positive: Int[Tensor, "n"], found: Float[Tensor, "n"], epsilon: float
) -> Float[Tensor, "n"]:
    """The floor of every query's negatives: the score of its hardest positive - epsilon."""
    rounding = pair_rounding(call.scores, call.scores.row_numbers(), positive, found)
    return rounding.above(found.detach() - epsilon)


def above(window: Window, floor: Float[Tensor, "n"]) -> Window:
    """The window of the queries with another floor as well."""
    known = window.row_floor
    return window._replace(row_floor=floor if known is None else torch.maximum(known, floor))


def two_sided_choices(call: Call, epsilon: float | None) -> MinedTerms:
    """The negatives that the terms of every query take."""
    if epsilon is None:
        return choices_of_queries(call)
    scores, selection, own = call.scores, chosen_selection(call), call.scores.row_numbers()
    window, plain = window_of_negatives(call), replace(selection, fallback="none")
    positive, hardest_positive = extreme(scores, "positives", "lowest")
    floor = floor_of(call, positive, hardest_positive, epsilon)
    bounded = above(window, floor)
    if selection.fallback == "none":
        index = scores.select(query_search(call, plain, bounded)).rows
    else:
        fallen = fallback_of(call, selection, window)
        index = scores.select(query_search(call, plain, bounded)).rows
        kept = (fallen >= 0) & (scores.pairs(own, fallen) > floor)
        index = with_fallback(index, torch.where(kept, fallen, -1)[:, None])
    return mined_terms(scores, own, torch.where(positive[:, None] >= 0, index, -1))


def at_least_empty(x: Float[Tensor, "n"]) -> Float[Tensor, "n"]:
    """Log-sum-exps with ``EMPTY`` in place of the -inf of empty sums."""
    return torch.where(x > EMPTY, x, EMPTY)


@torch.no_grad()
def extreme(
    scores: Scores, among: str, order: str, window: Window = OPEN, fallback: str = "none"
) -> tuple[Int[Tensor, "n"], Float[Tensor, "n"]]:
    """Index and score of every query's lowest or highest candidate; -1 and 0 where there is none."""
    selection = Selection(order, 1, fallback=fallback)
    index = scores.select(Search(selection, among, window, columns=False)).rows[:, 0]
    return index, scores.pairs(scores.row_numbers(), index)


@torch.no_grad()
def fallback_of(call: Call, selection: Selection, window: Window) -> Int[Tensor, "n"]:
    """The fallback of every query for which the strategy selects nothing from the window; -1 for the others."""
    scores, seed = call.scores, seed_for(selection, call.scores)
    without = replace(selection, fallback="none")
    chosen = scores.select(Search(without, window=window, seed=seed, columns=False)).rows[:, 0]
    order = "lowest" if selection.fallback == "easiest" else "highest"
    index, _ = extreme(scores, "negatives", order)
    return torch.where(chosen < 0, index, -1)


def negative_logsumexp(
    call: Call, energy: Energy, window: Window, fallen: Int[Tensor, "n"] | None
) -> Float[Tensor, "n"]:
    """Over all negatives in the window, or over the k that a strategy selects from it.

    With ``fallen`` the fallbacks are these alone, without those that epsilon takes: one replaces what the strategy does
    not find.
    """
    selection = call.selection
    if selection is None:
        terms = ExponentialTerms(energy, window=window, columns=False)
        return call.scores.logsumexp(terms).rows
    if fallen is None:
        mined = mined_queries(call, selection, window)
        return torch.where(mined.there, energy(mined.scores), EMPTY).logsumexp(1)
    mined = mined_queries(call, replace(selection, fallback="none"), window)
    score = call.scores.pairs(call.scores.row_numbers(), fallen)
    every, there = (
        torch.cat([x, y[:, None]], 1)
        for x, y in ((mined.scores, score), (mined.there, fallen >= 0))
    )
    return torch.where(there, energy(every), EMPTY).logsumexp(1)
