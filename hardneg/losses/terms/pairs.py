"""Terms of the pair losses: every pair is a term, phi(t - score) of positives, phi(score - t) of negatives."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from hardneg.losses.scalars import fill
from hardneg.losses.terms.mining import mined_queries
from hardneg.losses.terms.reduction import Terms
from hardneg.losses.terms.softmax import mean_positive
from hardneg.losses.terms.windows import count_negatives, window_of_negatives
from hardneg.negatives import Selection
from hardneg.ops.requests import PenaltyTerms
from hardneg.penalties import Penalty

if TYPE_CHECKING:
    from jaxtyping import Float, Int

    from hardneg.losses.call import Call

__all__ = ["PairTerms", "PairThresholds", "pair_terms"]


@dataclass(frozen=True, eq=False, repr=False)
class PairTerms:
    """The positive or the negative terms of every query.

    Attributes:
        sums: their sum by query, or over all queries (0-d) unless terms are wanted one by one.
        pairs: how many terms every query has.
        active: how many of them are above 0.
        scores: mean score of the positives, or the highest of the negatives, for statistics.
    """

    sums: Float[Tensor, "..."]
    pairs: Int[Tensor, "n"]
    active: Int[Tensor, "n"]
    scores: Float[Tensor, "n"]

    def mean(self, reduction: str) -> Float[Tensor, "..."]:
        """The sum, or a mean over pairs, or over active ones."""
        if reduction not in ("mean", "mean_active"):
            return self.sums
        count = self.pairs if reduction == "mean" else self.active
        return self.sums / count.sum().clamp(min=1)


@dataclass(frozen=True, eq=False, repr=False)
class PairThresholds:
    """``phi(positive - scale * score)`` of positive pairs, ``phi(scale * score - negative)`` of negative ones.

    Attributes:
        positive, negative: one threshold a query.
        penalty: phi.
        scale: a factor of the scores; None for 1.
    """

    positive: Float[Tensor, "n"]
    negative: Float[Tensor, "n"]
    penalty: Penalty
    scale: Float[Tensor, ""] | None = None

    def scaled(self, scores: Tensor) -> Tensor:
        """The scores times the scale."""
        return scores if self.scale is None else scores * self.scale


def pair_terms(call: Call, thresholds: PairThresholds) -> tuple[PairTerms, PairTerms]:
    """The positive and the negative terms of every query."""
    if call.scores.relation.paired:
        positive = paired_terms(call, thresholds)
    else:
        positive = positive_terms(call, thresholds)
    selection = call.selection
    if selection is None:
        return positive, negative_terms(call, thresholds)
    return positive, mined_terms(call, thresholds, selection)


def penalty_sums(call: Call, terms: PenaltyTerms) -> tuple[Tensor, Tensor, Tensor]:
    """Sums (or the total unless terms are wanted one by one), counts and largest arguments of the queries."""
    terms = replace(terms, maxima=call.statistics)
    if call.reduction != "none":
        assert terms.row_thresholds is not None
        ones = torch.ones_like(terms.row_thresholds).detach()
        found = call.scores.penalty_total(terms, ones)
        return found.value, found.row_counts, found.row_maxima
    sums = call.scores.penalty_sum(terms)
    return sums.rows, sums.row_counts, sums.row_maxima


def paired_terms(call: Call, thresholds: PairThresholds) -> PairTerms:
    """Positive terms of paired rows."""
    positive = call.own_positive()
    p, has = call.scores.pairs(call.scores.row_numbers(), positive), positive >= 0
    values = thresholds.penalty.value(thresholds.positive - thresholds.scaled(p))
    values = torch.where(has, values, 0.0)
    active = (values.detach() > 0).long()
    sums = values if call.reduction == "none" else values.sum()
    return PairTerms(sums, has.long(), active, p.detach())


def positive_terms(call: Call, thresholds: PairThresholds) -> PairTerms:
    """Positive terms of all related pairs."""
    penalty, limits = thresholds.penalty, thresholds.positive
    terms = PenaltyTerms(penalty, limits, among="positives", sign=-1.0, scale=thresholds.scale)
    sums, counts, largest = penalty_sums(call, terms)
    pairs, _ = call.scores.counts("positives")
    mean = mean_positive(call, pairs) if call.statistics else torch.zeros_like(largest)
    return PairTerms(sums, pairs, counts, mean)


def negative_terms(call: Call, thresholds: PairThresholds) -> PairTerms:
    """Negative terms of all negatives."""
    scale, limits = thresholds.scale, thresholds.negative
    window = window_of_negatives(call)
    pairs = count_negatives(call.scores, window)
    terms = PenaltyTerms(thresholds.penalty, limits, scale=scale, window=window)
    sums, counts, largest = penalty_sums(call, terms)
    highest = limits.detach() + largest
    highest = highest if scale is None else highest / scale.detach()
    return PairTerms(sums, pairs, counts, torch.where(pairs > 0, highest, 0.0))


def mined_terms(call: Call, thresholds: PairThresholds, selection: Selection) -> PairTerms:
    """Negative terms of the negatives that a strategy selects."""
    mined = mined_queries(call, selection, window_of_negatives(call))
    x = thresholds.scaled(mined.scores) - thresholds.negative[:, None]
    values = torch.where(mined.there, thresholds.penalty.value(x), 0.0)
    sums = values.sum(1) if call.reduction == "none" else values.sum()
    return PairTerms(sums, mined.there.sum(1), (values.detach() > 0).sum(1), mined.hardest)


def mean_of_kinds(call: Call, thresholds: PairThresholds) -> Terms:
    """Both kinds of terms under one reduction: each mean is over its own pairs, or its own active ones."""
    positive, negative = pair_terms(call, thresholds)
    kinds = (positive, negative) if call.reduction == "none" else ()
    return Terms(
        positive.mean(call.reduction) + negative.mean(call.reduction),
        (positive.pairs > 0) & (negative.pairs > 0),
        positive.active + negative.active,
        positive.pairs + negative.pairs,
        positive.scores,
        negative.scores,
        summed=True,
        kinds=kinds,
    )


def as_vector(argument: str, value: float | Tensor, call: Call) -> Float[Tensor, "n"]:
    """A number, a scalar tensor or a vector as one threshold a query.

    Raises:
        ValueError: for a tensor of another length.
    """
    n = call.scores.shape[0]
    if not isinstance(value, Tensor):
        return fill((n,), value, call.scores)
    if value.numel() != 1 and value.shape != (n,):
        raise ValueError(
            f"{argument} has shape {tuple(value.shape)}: expected a number, a scalar tensor or ({n},), one "
            "value an anchor"
        )
    return value.to(call.scores.dtype).reshape(-1).expand(n)
