"""Terms of the margin losses: phi(margin - positive + negative), for one positive an anchor or all of them."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from hardneg.losses.terms.mining import Mined, mine
from hardneg.losses.terms.reduction import Both, Terms
from hardneg.losses.terms.selected_pairs import selected_pairs
from hardneg.losses.terms.windows import (
    NEVER,
    counts_of_all,
    pad_candidates,
    pair_rounding,
    window_of_pairs,
)
from hardneg.negatives import All
from hardneg.ops.comparison import OPEN
from hardneg.ops.requests import BatchAllTerms, PenaltyTerms
from hardneg.ops.rounding import Rounding
from hardneg.ops.scores import Sums, Total
from hardneg.penalties import Hinge, Penalty

if TYPE_CHECKING:
    from jaxtyping import Float, Int

    from hardneg.losses.call import Call

__all__ = ["all_positives", "hinge_terms"]


def mined_terms(
    mined: Mined, positives: Float[Tensor, "t"], has: Tensor, margin: float, penalty: Penalty
) -> Terms:
    """Terms of the selected negatives, summed over those of each pair."""
    # the compiler makes one graph for every number that a tensor is taken from
    x = mined.scores - (positives[:, None] - margin)
    values = torch.where(mined.there, penalty.value(x), 0.0)
    valid = has & mined.there[:, 0]
    active = (values.detach() > 0).sum(1)
    return Terms(values.sum(1), valid, active, mined.there.sum(1), positives, mined.hardest)


def hinge_terms(call: Call, positive: Int[Tensor, "n"], margin: float, penalty: Penalty) -> Both:
    """Query i with candidate ``positive[i]`` (-1: none); candidates as anchors are the paired ones."""
    selection = call.selection
    if selection is None:
        return every_negative(call, positive, margin, penalty)
    p, *directions = mine(call, positive, selection)
    has = positive >= 0
    queries, candidates = (
        None if mined is None else mined_terms(mined, p, has, margin, penalty)
        for mined in directions
    )
    if call.negatives.mean_if_closer is None:
        return queries, candidates
    bounds = call.negatives.min_score, call.negatives.max_score
    strategy = All(min_score=bounds[0], max_score=bounds[1])
    every = replace(call, negatives=strategy, reduction="none")
    means = every_negative(every, positive, margin, penalty)
    threshold = call.negatives.mean_if_closer
    rounding = pair_rounding(call.scores, call.scores.row_numbers(), positive, p)
    return (
        mean_where_close(queries, means[0], threshold, rounding),
        mean_where_close(candidates, means[1], threshold, rounding),
    )


def mean_where_close(
    hardest: Terms | None, every: Terms | None, threshold: float, rounding: Rounding
) -> Terms | None:
    """SelHN: the mean over all negatives where the hardest cannot be told from the positive."""
    if hardest is None or every is None:
        return None
    p, highest = hardest.positives.detach(), hardest.hardest.detach()
    close = (highest > rounding.above(p - threshold)) & (highest < rounding.below(p + threshold))
    mean = every.values / every.considered.clamp(min=1)
    return replace(
        hardest,
        values=torch.where(close, mean, hardest.values),
        active=torch.where(close, every.active, hardest.active),
        considered=torch.where(close, every.considered, hardest.considered),
    )


def every_negative(call: Call, positive: Int[Tensor, "n"], margin: float, penalty: Penalty) -> Both:
    """All negatives: one pass with the gradients where the weight of every anchor is known beforehand."""
    scores, own, n = call.scores, call.scores.row_numbers(), call.scores.shape[0]
    p, has = scores.pairs(own, positive), positive >= 0
    thresholds = torch.where(has, p - margin, NEVER)
    of_columns = pad_candidates(thresholds, scores, NEVER) if call.candidates else None
    window = window_of_pairs(call, positive, p)
    narrow = call.negatives.ranged or call.counts_triplets
    rows, columns = counts_of_all(call, window if narrow else OPEN)
    columns = columns[:n]
    considered = rows if call.queries else columns, columns if call.candidates else rows
    valid = tuple(has & (counts > 0) for counts in considered)
    bounded = call.negatives.bounded
    # in a window they tell which anchors have any negative left
    maxima = call.statistics or bounded
    of_rows = thresholds if call.queries else None
    terms = PenaltyTerms(penalty, of_rows, of_columns, maxima=maxima)
    found: Sums | Total
    if call.reduction in ("sum", "mean", "mean_triplets") and not bounded:
        weights = [
            anchor_weights(some, counts, call.reduction, p)
            for some, counts in zip(valid, considered, strict=True)
        ]
        found = scores.penalty_total(
            terms,
            weights[0] if call.queries else None,
            pad_candidates(weights[1], scores, 0.0) if call.candidates else None,
        )
        # the total of both directions stands in the first one asked for
        values = found.value, torch.zeros_like(found.value) if call.queries else found.value
    else:
        found = scores.penalty_sum(replace(terms, window=window))
        values = found.rows, found.columns[:n]

    def terms_of(side: int, active: Tensor, largest: Tensor) -> Terms:
        largest, summed = largest[:n], isinstance(found, Total)
        reached = valid[side] & (largest > -torch.inf) if maxima else valid[side]
        hardest = torch.where(reached, largest + thresholds.detach(), 0.0)
        return Terms(values[side], reached, active[:n], considered[side], p, hardest, summed)

    return (
        terms_of(0, found.row_counts, found.row_maxima) if call.queries else None,
        terms_of(1, found.column_counts, found.column_maxima) if call.candidates else None,
    )


def anchor_weights(
    valid: Tensor, counts: Tensor, reduction: str, like: Tensor
) -> Float[Tensor, "n"]:
    """1, or 1 / (number of valid anchors, or of their triplets); 0 for others. In the type of ``like``, the scores."""
    weights = valid.to(like.dtype)
    if reduction == "sum":
        return weights
    terms = torch.where(valid, counts, 0) if reduction == "mean_triplets" else valid
    return weights / terms.sum().clamp(min=1)


def all_positives(call: Call, margin: float, penalty: Penalty) -> Terms:
    """Every candidate of a query's label as its positive, each pair a term."""
    if call.selection is not None:
        return selected_pairs(call, margin, penalty)
    if not call.lists_terms:
        return batch_all(call, margin, penalty)
    scores = call.scores
    anchors, positives = scores.positive_pairs()
    strategy = call.negatives
    terms = BatchAllTerms(penalty, margin, strategy.ceiling, True, score_range=strategy.score_range)
    found = scores.batch_all(terms)
    p = scores.pairs(anchors, positives)
    considered = scores.counts("negatives")[0][anchors]
    hardest = found.maxima[anchors]
    of_terms = found.sums, considered > 0, found.counts, considered, p, hardest
    return Terms(*of_terms, anchors=anchors)


def batch_all(call: Call, margin: float, penalty: Penalty) -> Terms:
    """All positives against all negatives: the finished sum or mean, or sums by anchor, from one pass.

    Statistics are by anchor: each anchor's mean positive stands for its pairs.
    """
    strategy, total = call.negatives, call.reduction != "none"
    bounds = strategy.ceiling, strategy.score_range
    terms = BatchAllTerms(penalty, margin, bounds[0], total=total, score_range=bounds[1])
    found = call.scores.batch_all(terms)
    positives, _ = call.scores.counts("positives")
    value, considered = found.sums, triplets_of(call, positives)
    if call.reduction not in ("sum", "none"):
        counts = {"mean": found.pairs, "mean_active": found.counts, "mean_triplets": considered}
        value = value / counts[call.reduction].sum().clamp(min=1)
    return Terms(
        value,
        found.pairs > 0,
        found.counts,
        considered,
        found.positive_sums / positives.clamp(min=1),
        found.maxima,
        summed=True,
        counted=found.pairs,
    )


@torch.no_grad()
def triplets_of(call: Call, positives: Int[Tensor, "n"]) -> Int[Tensor, "n"]:
    """How many (positive, negative) pairs each anchor has; those in the window only where a mean divides by them."""
    if call.negatives.bounded and call.counts_triplets:
        # every difference is above such a margin
        bounds = call.negatives.ceiling, call.negatives.score_range
        every = BatchAllTerms(Hinge(), NEVER, bounds[0], score_range=bounds[1])
        return call.scores.batch_all(every).counts
    return positives * call.scores.counts("negatives")[0]
