"""The supervised contrastive loss over a small matrix."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from hardneg.ops.comparison import Comparison
from hardneg.ops.requests import SupervisedLoss
from hardneg.ops.small.pairs import FAR
from hardneg.ops.small.relations import related
from hardneg.ops.small.slopes import Slopes

if TYPE_CHECKING:
    from jaxtyping import Float

__all__ = ["supervised_loss"]


def supervised_loss(
    comparison: Comparison, scores: Float[Tensor, "n m"], loss: SupervisedLoss, gradient: bool
) -> Slopes:
    """``logsumexp(scale * others) - scale * mean(positives)`` of every query that has both kinds."""
    pairs = related(comparison.relation, scores)
    counts = pairs.positive.sum(1)
    negatives = scores.shape[1] - pairs.excluded.sum(1)
    valid = torch.minimum(counts, negatives).clamp_(max=1)
    counts.clamp_(min=1)
    z = (scores * loss.scale).sub_(pairs.excluded - pairs.positive, alpha=FAR)
    largest = z.amax(1, keepdim=True)
    e = z.sub_(largest).exp_()
    sums = e.sum(1)
    mean = (pairs.positive * scores).sum(1) / counts
    terms = sums.log().add_(largest[:, 0]).sub_(mean * loss.scale)
    weights = valid * loss.share
    if loss.reduction != "sum":
        weights = weights / valid.sum().clamp(min=1)
    value = torch.dot(terms, weights)
    if not gradient:
        return Slopes(value)
    by_scores = e.mul_((weights / sums)[:, None]).addcmul_(
        pairs.positive, (weights / counts)[:, None], value=-1
    )
    by_scale = (by_scores * scores).sum() if isinstance(loss.scale, Tensor) else None
    return Slopes(value, by_scores.mul_(loss.scale), by_scale)
