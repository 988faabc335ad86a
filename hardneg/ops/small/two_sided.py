"""Losses with a log-sum-exp over positives and one over negatives of a small matrix."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor

from hardneg.ops.comparison import Comparison
from hardneg.ops.energies import Energy, Linear
from hardneg.ops.loss_requests import TwoSidedLoss
from hardneg.ops.small.pairs import FAR
from hardneg.ops.small.relations import related, shares_of_anchors
from hardneg.ops.small.slopes import Slopes
from hardneg.penalties import softplus

if TYPE_CHECKING:
    from jaxtyping import Float

__all__ = ["knows_two_sided", "two_sided_loss"]


def knows_two_sided(loss: TwoSidedLoss, comparison: Comparison) -> bool:
    """All negatives of the queries."""
    return loss.negatives.complete and loss.negatives.ceiling is None and not loss.candidates


class SoftSum(NamedTuple):
    """A log-sum-exp of every query.

    Attributes:
        value: the log-sum-exp.
        sums: of the exponentials, less a shift.
        slopes: derivatives of the sums by the scores, but for ``factor``.
        factor: of all derivatives.
    """

    value: Float[Tensor, "n"]
    sums: Float[Tensor, "n"]
    slopes: Float[Tensor, "n m"]
    factor: float = 1.0


def soft_sum(energy: Energy, scores: Float[Tensor, "n m"], out: Float[Tensor, "n m"]) -> SoftSum:
    """Of the energies of all but what is ``out``."""
    e = energy.value(scores).sub_(out, alpha=FAR)
    largest = e.amax(1, keepdim=True)
    sums = e.sub_(largest).exp_().sum(1)
    value = sums.log().add_(largest[:, 0])
    if isinstance(energy, Linear):
        return SoftSum(value, sums, e, energy.factor)
    return SoftSum(value, sums, e.mul_(energy.slope(scores)))


def two_sided_loss(
    comparison: Comparison, scores: Float[Tensor, "n m"], loss: TwoSidedLoss, gradient: bool
) -> Slopes:
    """The terms of every query that has both kinds, of the two sums apart or of their product."""
    pairs = related(comparison.relation, scores)
    negatives = pairs.excluded.shape[1] - pairs.excluded.sum(1)
    both = torch.minimum(pairs.positive.sum(1), negatives).clamp_(max=1)
    weights = shares_of_anchors(loss, both)
    positive = soft_sum(loss.positive, scores, 1 - pairs.positive)
    negative = soft_sum(loss.negative, scores, pairs.excluded)
    a, b = (1.0, 1.0) if loss.weights is None else loss.weights
    if loss.weights is None:
        x = positive.value + negative.value
        terms, of_positive = softplus(x), x.sigmoid_().mul_(weights)
        of_negative = of_positive
    else:
        terms = softplus(positive.value).mul_(a).add_(softplus(negative.value), alpha=b)
        of_positive = positive.value.sigmoid().mul_(weights)
        of_negative = negative.value.sigmoid().mul_(weights)
    value = terms.mul_(weights).sum()
    if not gradient:
        return Slopes(value)
    of_positive = (of_positive / positive.sums).mul_(a * positive.factor)
    of_negative = (of_negative / negative.sums)[:, None]
    by_scores = positive.slopes.mul_(of_positive[:, None])
    return Slopes(
        value, by_scores.addcmul_(negative.slopes, of_negative, value=b * negative.factor)
    )
