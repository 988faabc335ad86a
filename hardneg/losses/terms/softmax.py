"""Terms of the softmax losses: softplus(logsumexp of the negatives - positive)."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from hardneg.losses.terms.mining import Mined, mine
from hardneg.losses.terms.reduction import Both, Terms
from hardneg.losses.terms.selected_pairs import selected_pairs
from hardneg.losses.terms.windows import count_negatives, window_of_negatives, window_of_pairs
from hardneg.ops.comparison import Window
from hardneg.ops.energies import Linear
from hardneg.ops.requests import ExponentialTerms, PenaltyTerms
from hardneg.penalties import Identity, Logistic, softplus

if TYPE_CHECKING:
    from jaxtyping import Float, Int

    from hardneg.losses.call import Call

__all__ = ["EMPTY", "every_positive", "mean_positive", "mined_logsumexp", "one_positive"]

EMPTY = -1e30
"""Log-sum-exp of an empty set; finite, so that subtracting two of them gives 0, not NaN."""


def mined_logsumexp(mined: Mined, scale: Tensor, hardness: float = 0.0) -> Float[Tensor, "t"]:
    """Log-sum-exp of the selected negatives, each weighted by exp(hardness * score)."""
    z = mined.scores * scale
    if hardness != 0.0:
        z = z + hardness * mined.scores.detach()
    z = torch.where(mined.there, z, EMPTY)
    # torch.logsumexp asks whether there are no rows, which the compiler cannot know of listed pairs
    largest = z.detach().amax(1, keepdim=True)
    return (z - largest).exp().sum(1).log() + largest[:, 0]


def term(
    positives: Tensor, against: Tensor, scale: Tensor, margin: float, valid: Tensor
) -> Float[Tensor, "t"]:
    """softplus(against - scale * (positive - margin)), 0 where invalid."""
    x = against - scale * (positives - margin)
    return softplus(torch.where(valid, x, EMPTY))


def from_logsumexp(
    lse: Tensor, largest: Tensor, counts: Tensor, p: Tensor, scale: Tensor, margin: float
) -> Terms:
    """Terms of anchors whose negatives are summed up already."""
    valid = counts > 0
    values = term(p, torch.where(valid, lse, EMPTY), scale, margin, valid)
    hardest = torch.where(valid, largest, 0.0) / scale.detach()
    return Terms(values, valid, valid.long(), valid.long(), p, hardest)


def from_mined(mined: Mined, p: Tensor, has: Tensor, scale: Tensor, margin: float) -> Terms:
    """Terms of anchors with selected negatives."""
    valid = has & mined.there[:, 0]
    values = term(p, mined_logsumexp(mined, scale), scale, margin, valid)
    return Terms(values, valid, valid.long(), valid.long(), p, mined.hardest)


def one_positive(call: Call, scale: Float[Tensor, ""], margin: float) -> Both:
    """Query i with candidate i, in both directions."""
    positive, selection = call.own_positive(), call.selection
    if selection is None:
        return against_all(call, positive, scale, margin)
    p, *directions = mine(call, positive, selection)
    has = positive >= 0
    queries, candidates = (
        None if mined is None else from_mined(mined, p, has, scale, margin) for mined in directions
    )
    return queries, candidates


def against_all(
    call: Call, positive: Int[Tensor, "n"], scale: Float[Tensor, ""], margin: float
) -> Both:
    """These positives against all negatives (below the ceiling, where there is one)."""
    scores = call.scores
    p = scores.pairs(scores.row_numbers(), positive)
    window = window_of_pairs(call, positive, p)
    sides = call.queries, call.candidates
    found = scores.logsumexp(ExponentialTerms(Linear(), "negatives", scale, window, *sides))
    row_counts, column_counts = scores.counts("negatives")

    def terms_of(lse: Tensor, largest: Tensor, counts: Tensor) -> Terms:
        n = p.shape[0]
        # a window may have left nothing
        remaining = torch.where(lse[:n].detach() == -torch.inf, 0, counts[:n])
        remaining = torch.where(positive >= 0, remaining, 0)
        return from_logsumexp(lse[:n], largest[:n], remaining, p, scale, margin)

    return (
        terms_of(found.rows, found.row_maxima, row_counts) if call.queries else None,
        terms_of(found.columns, found.column_maxima, column_counts) if call.candidates else None,
    )


def all_negatives(scale: Float[Tensor, ""], window: Window) -> ExponentialTerms:
    """Exponentials of every query's negatives in the window, all of them."""
    return ExponentialTerms(Linear(), scale=scale, window=window, columns=False)


def every_positive(call: Call, scale: Float[Tensor, ""], margin: float) -> Terms:
    """All candidates of a query's id as positives, each against the negatives alone; queries only."""
    if call.selection is not None or call.negatives.ceiling is not None:
        return selected_pairs(call, margin, scale=scale)
    if call.lists_terms:
        return listed_positives(call, scale, margin)
    scores, window = call.scores, window_of_negatives(call)
    found = scores.logsumexp(all_negatives(scale, window))
    negatives = count_negatives(scores, window)
    positives, _ = scores.counts("positives")
    valid = (negatives > 0) & (positives > 0)
    against = torch.where(valid, found.rows, EMPTY) + scale * margin
    terms = PenaltyTerms(
        Logistic(), against, among="positives", sign=-1.0, scale=scale, maxima=False
    )
    sums = torch.where(valid, scores.penalty_sum(terms).rows, 0.0)
    pairs = torch.where(valid, positives, 0)
    hardest = torch.where(valid, found.row_maxima, 0.0) / scale.detach()
    mean = mean_positive(call, positives) if call.statistics else hardest
    if call.by_anchor:
        return Terms(sums, valid, pairs, pairs, mean, hardest, counted=pairs)
    total = sums.sum()
    value = total if call.reduction == "sum" else total / pairs.sum().clamp(min=1)
    return Terms(value, valid, valid.long(), valid.long(), mean, hardest, summed=True)


@torch.no_grad()
def mean_positive(call: Call, counts: Int[Tensor, "n"]) -> Float[Tensor, "n"]:
    """Mean score of each query's positives: a pass of its own, made for statistics only."""
    terms = PenaltyTerms(Identity(), call.scores.zeros(), among="positives", maxima=False)
    return call.scores.penalty_sum(terms).rows / counts.clamp(min=1)


def listed_positives(call: Call, scale: Float[Tensor, ""], margin: float) -> Terms:
    """The terms by listed (anchor, positive) pairs, one by one."""
    scores, window = call.scores, window_of_negatives(call)
    anchors, positives = scores.positive_pairs()
    p = scores.pairs(anchors, positives)
    found = scores.logsumexp(all_negatives(scale, window))
    counts = count_negatives(scores, window)
    lse, largest = (x.index_select(0, anchors) for x in (found.rows, found.row_maxima))
    terms = from_logsumexp(lse, largest, counts.index_select(0, anchors), p, scale, margin)
    return replace(terms, anchors=anchors)
