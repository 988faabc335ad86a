"""Softmax losses of every positive over all negatives of a small matrix."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from hardneg.ops.comparison import Comparison
from hardneg.ops.loss_requests import LabelledLoss
from hardneg.ops.small.pairs import FAR
from hardneg.ops.small.relations import Related, related
from hardneg.ops.small.slopes import Slopes
from hardneg.ops.small.weights import by_margin, margin_of
from hardneg.penalties import softplus

if TYPE_CHECKING:
    from jaxtyping import Float

__all__ = ["every_positive_loss"]


def every_positive_loss(
    comparison: Comparison, scores: Float[Tensor, "n m"], loss: LabelledLoss, gradient: bool
) -> Slopes:
    """``log(1 + sum of exp(scale * (margin - positive + negative)))`` of every positive of the anchors."""
    pairs = related(comparison.relation, scores)
    found = []
    if loss.queries:
        found.append(of_rows(scores, pairs, loss, gradient))
    if loss.candidates:
        swapped = Related(pairs.positive.t(), pairs.excluded.t())
        other = of_rows(scores.t(), swapped, loss, gradient)
        by_scores = None if other.by_scores is None else other.by_scores.t()
        found.append(other._replace(by_scores=by_scores))
    if len(found) == 1:
        return found[0]
    of_queries, of_candidates = found
    return of_queries.plus(of_candidates)


def of_rows(
    scores: Float[Tensor, "n m"], pairs: Related, loss: LabelledLoss, gradient: bool
) -> Slopes:
    """The terms of the rows as anchors; those without a negative are 0."""
    margin = margin_of(loss)
    e = torch.sub(scores, pairs.excluded, alpha=FAR)
    largest = e.amax(1, keepdim=True)
    sums = e.sub_(largest).exp_().sum(1, keepdim=True)
    x = sums.log().add_(largest).add_(margin) - scores
    weight = share_of_each(pairs, loss)
    value = (softplus(x) * pairs.positive).sum() * weight
    if not gradient:
        return Slopes(value)
    pull = x.sigmoid_().mul_(pairs.positive).mul_(weight)
    of_anchors = pull.sum(1, keepdim=True)
    by_scores = e.mul_(of_anchors.div(sums)).sub_(pull)
    return Slopes(value, by_scores, by_margin(loss, of_anchors))


def share_of_each(pairs: Related, loss: LabelledLoss) -> float | Float[Tensor, ""]:
    """The weight of the terms: those of anchors that have a negative count."""
    if loss.reduction == "sum":
        return loss.share
    some = (pairs.excluded.shape[1] - pairs.excluded.sum(1)).clamp_(max=1)
    return loss.share / torch.dot(pairs.positive.sum(1), some).clamp_(min=1)
