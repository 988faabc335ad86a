"""Losses of which every pair over a small matrix is a term."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor

from hardneg.ops.comparison import Comparison
from hardneg.ops.loss_requests import EveryPairLoss
from hardneg.ops.small.pairs import FAR, Pairs
from hardneg.ops.small.relations import Related, related
from hardneg.ops.small.slopes import Slopes
from hardneg.penalties import VANISHING

if TYPE_CHECKING:
    from jaxtyping import Float

__all__ = ["every_pair_loss", "knows_every_pair"]


def knows_every_pair(loss: EveryPairLoss, comparison: Comparison) -> bool:
    """All negatives of the queries, by a penalty of this package, and a bias that is one number."""
    one = not isinstance(loss.bias, Tensor) or loss.bias.numel() == 1
    complete = loss.negatives.complete and loss.negatives.ceiling is None
    if loss.apart and comparison.relation.paired:
        return False
    return complete and one and not loss.candidates and type(loss.penalty) in VANISHING


class Limits(NamedTuple):
    """The thresholds of positive and negative pairs, for scaled scores without the bias."""

    positive: float | Float[Tensor, ""]
    negative: float | Float[Tensor, ""]

    @classmethod
    def of(cls, loss: EveryPairLoss, dtype: torch.dtype) -> Limits:
        """Less the bias, so that scores stay exact: a hinge at exactly 0 has no gradient."""
        if loss.bias is None:
            return cls(loss.positive, loss.negative)
        bias = loss.bias.to(dtype) if isinstance(loss.bias, Tensor) else loss.bias
        return cls(loss.positive - bias, loss.negative - bias)


class Arguments(NamedTuple):
    """What the penalty of every pair is of.

    Attributes:
        x: the arguments; far below 0 for pairs that are neither positive nor negative.
        pairs: which of them are positive and which no negatives; None where the diagonal is positive.
        everyone: whether every query is known to have a pair.
    """

    x: Float[Tensor, "n m"]
    pairs: Related | None
    everyone: bool

    def turned(self, slopes: Float[Tensor, "n m"]) -> Float[Tensor, "n m"]:
        """Slopes by the scores, which positive pairs have with the other sign; in place."""
        if self.pairs is None:
            slopes.diagonal().neg_()
            return slopes
        return slopes.mul_(torch.rsub(self.pairs.positive, 1, alpha=2))


def every_pair_loss(
    comparison: Comparison, scores: Float[Tensor, "n m"], loss: EveryPairLoss, gradient: bool
) -> Slopes:
    """``phi(positive - z)`` of positive pairs and ``phi(z - negative)`` of negative ones, z = scale * score + bias."""
    limits = Limits.of(loss, scores.dtype)
    found = (of_paired if comparison.relation.paired else of_labelled)(comparison, scores, limits)
    values = loss.penalty.value(found.x)
    weights = weights_of(found, values, loss)
    whole = isinstance(weights, Tensor) and weights.dim() == 2
    value = (values * weights).sum() if whole else values.sum() * weights
    if not gradient:
        return Slopes(value)
    return Slopes(value, found.turned(loss.penalty.slope(found.x).mul_(weights)))


def of_paired(comparison: Comparison, scores: Float[Tensor, "n m"], limits: Limits) -> Arguments:
    """Those of the positive pairs on the diagonal, and of the negative ones."""
    pairs, x = Pairs.of(comparison, scores), scores - limits.negative
    if pairs.excluded is not None:
        x.sub_(pairs.excluded, alpha=FAR)
    of_positives = limits.positive - pairs.positives
    if pairs.has is not None:
        of_positives.sub_(1 - pairs.has, alpha=FAR)
    x.diagonal().copy_(of_positives)
    return Arguments(x, None, pairs.has is None)


def of_labelled(comparison: Comparison, scores: Float[Tensor, "n m"], limits: Limits) -> Arguments:
    """Those of related rows and of all others."""
    pairs = related(comparison.relation, scores)
    of_positives = (limits.positive - scores).sub_(1 - pairs.positive, alpha=FAR)
    of_negatives = (scores - limits.negative).sub_(pairs.excluded, alpha=FAR)
    return Arguments(torch.maximum(of_positives, of_negatives), pairs, False)


def weights_of(
    found: Arguments, values: Float[Tensor, "n m"], loss: EveryPairLoss
) -> float | Tensor:
    """What the terms are multiplied by: one number, or one for every pair."""
    if loss.reduction == "sum":
        return loss.share
    if loss.apart and found.pairs is not None:
        masks = found.pairs.positive, 1 - found.pairs.excluded
        if loss.reduction == "mean_active":
            masks = masks[0] * (values > 0), masks[1] * (values > 0)
        of_positive, of_negative = (loss.share / mask.sum().clamp_(min=1) for mask in masks)
        return torch.lerp(of_negative, of_positive, found.pairs.positive)
    if loss.reduction == "mean_active":
        count = (values > 0).sum().to(values.dtype)
    elif found.everyone:
        return loss.share / len(values)
    else:
        count = (found.x > -FAR / 2).any(1).sum().to(values.dtype)
    return loss.share / count.clamp_(min=1)
