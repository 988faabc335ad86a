"""The supervised contrastive loss over a small matrix."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from hardneg.ops.comparison import Comparison
from hardneg.ops.loss_requests import SupervisedLoss
from hardneg.ops.small.pairs import FAR
from hardneg.ops.small.relations import related, shares_of_anchors
from hardneg.ops.small.slopes import Slopes

if TYPE_CHECKING:
    from jaxtyping import Float

__all__ = ["knows_supervised", "supervised_loss"]


def knows_supervised(loss: SupervisedLoss, comparison: Comparison) -> bool:
    """All others of the queries."""
    return loss.negatives.complete and loss.negatives.ceiling is None and not loss.candidates


def supervised_loss(
    comparison: Comparison, scores: Float[Tensor, "n m"], loss: SupervisedLoss, gradient: bool
) -> Slopes:
    """``logsumexp(scale * others) - scale * mean(positives)`` of every query that has a positive."""
    pairs = related(comparison.relation, scores)
    counts = pairs.positive.sum(1)
    weights = shares_of_anchors(loss, counts.clamp(max=1))
    counts.clamp_(min=1)
    z = torch.sub(scores, pairs.excluded - pairs.positive, alpha=FAR)
    largest = z.amax(1, keepdim=True)
    e = z.sub_(largest).exp_()
    sums = e.sum(1)
    mean = (pairs.positive * scores).sum(1).div_(counts)
    value = torch.dot(sums.log().add_(largest[:, 0]).sub_(mean), weights)
    if not gradient:
        return Slopes(value)
    by_scores = e.mul_((weights / sums)[:, None])
    return Slopes(value, by_scores.addcmul_(pairs.positive, (weights / counts)[:, None], value=-1))
