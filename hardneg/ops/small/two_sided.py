"""Losses with a log-sum-exp over positives and one over negatives of a small matrix."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from torch import Tensor

from hardneg.ops.comparison import Comparison
from hardneg.ops.energies import Energy
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
    """A log-sum-exp of every query, and its derivative by the scores but for ``1 / sums``."""

    value: Float[Tensor, "n"]
    sums: Float[Tensor, "n"]
    slopes: Float[Tensor, "n m"]


def soft_sum(energy: Energy, scores: Float[Tensor, "n m"], out: Float[Tensor, "n m"]) -> SoftSum:
    """Of the energies of all but what is ``out``."""
    e = energy.value(scores).sub_(out, alpha=FAR)
    largest = e.amax(1, keepdim=True)
    sums = e.sub_(largest).exp_().sum(1)
    return SoftSum(sums.log().add_(largest[:, 0]), sums, e.mul_(energy.slope(scores)))


def two_sided_loss(
    comparison: Comparison, scores: Float[Tensor, "n m"], loss: TwoSidedLoss, gradient: bool
) -> Slopes:
    """The terms of every query that has both kinds, of the two sums apart or of their product."""
    pairs = related(comparison.relation, scores)
    weights = shares_of_anchors(pairs, loss)
    positive = soft_sum(loss.positive, scores, 1 - pairs.positive)
    negative = soft_sum(loss.negative, scores, pairs.excluded)
    if loss.weights is None:
        x = positive.value + negative.value
        terms = softplus(x)
        of_positive = of_negative = x.sigmoid_().mul_(weights)
    else:
        a, b = loss.weights
        terms = softplus(positive.value).mul_(a).add_(softplus(negative.value), alpha=b)
        of_positive = positive.value.sigmoid().mul_(weights).mul_(a)
        of_negative = negative.value.sigmoid().mul_(weights).mul_(b)
    value = terms.mul_(weights).sum()
    if not gradient:
        return Slopes(value)
    by_positive = positive.slopes.mul_((of_positive / positive.sums)[:, None])
    by_negative = negative.slopes.mul_((of_negative / negative.sums)[:, None])
    return Slopes(value, by_positive.add_(by_negative))
