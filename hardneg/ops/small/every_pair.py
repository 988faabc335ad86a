"""Losses of which every pair over a small matrix is a term."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor

from hardneg.ops.comparison import Comparison
from hardneg.ops.loss_requests import EveryPairLoss
from hardneg.ops.small.pairs import Pairs
from hardneg.ops.small.relations import related
from hardneg.ops.small.slopes import Slopes
from hardneg.penalties import Penalty, is_builtin

if TYPE_CHECKING:
    from jaxtyping import Float

__all__ = ["every_pair_loss", "knows_every_pair"]


def knows_every_pair(loss: EveryPairLoss, comparison: Comparison) -> bool:
    """All negatives of the queries, by a penalty of this package, and a bias that is one number."""
    one = not isinstance(loss.bias, Tensor) or loss.bias.numel() == 1
    complete = loss.negatives.complete and loss.negatives.ceiling is None
    return complete and one and not loss.candidates and is_builtin(loss.penalty)


class Kind(NamedTuple):
    """The terms of one kind of pairs.

    Attributes:
        values, slopes: phi and its derivative by the argument; 0 for pairs of another kind.
        counts: how many pairs of this kind every query has, or one number for all.
    """

    values: Tensor
    slopes: Tensor
    counts: int | Float[Tensor, "n"]

    def pairs(self, n: int) -> float | Float[Tensor, ""]:
        """How many there are of n queries."""
        return self.counts * n if isinstance(self.counts, int) else self.counts.sum()

    def active(self) -> Float[Tensor, ""]:
        """How many of them are above 0."""
        return (self.values > 0).sum().to(self.values.dtype)


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


def every_pair_loss(
    comparison: Comparison, scores: Float[Tensor, "n m"], loss: EveryPairLoss, gradient: bool
) -> Slopes:
    """``phi(positive - z)`` of positive pairs and ``phi(z - negative)`` of negative ones, z = scale * score + bias."""
    scaled = scores if loss.scale is None else scores * loss.scale
    paired, limits = comparison.relation.paired, Limits.of(loss, scores.dtype)
    positive, negative = (of_paired if paired else of_labelled)(
        comparison, scaled, limits, loss.penalty
    )
    of_positive, of_negative = weights(positive, negative, loss, len(scores))
    value = positive.values.sum() * of_positive + negative.values.sum() * of_negative
    if not gradient:
        return Slopes(value)
    by_z, less = negative.slopes.mul_(of_negative), positive.slopes.mul_(of_positive)
    (by_z.diagonal() if paired else by_z).sub_(less)
    by_scale = (by_z * scores).sum() if isinstance(loss.scale, Tensor) else None
    by_bias = by_z.sum() if isinstance(loss.bias, Tensor) else None
    return Slopes(value, by_z if loss.scale is None else by_z.mul_(loss.scale), by_scale, by_bias)


def of_paired(
    comparison: Comparison, scaled: Float[Tensor, "n m"], limits: Limits, penalty: Penalty
) -> tuple[Kind, Kind]:
    """The positive terms, those of the diagonal alone, and the negative ones."""
    pairs, m = Pairs.of(comparison, scaled), scaled.shape[1]
    x, y = limits.positive - scaled.diagonal(), scaled - limits.negative
    values, slopes = penalty.value(x), penalty.slope(x)
    positive = Kind(values, slopes, 1)
    if pairs.has is not None:
        positive = Kind(values * pairs.has, slopes * pairs.has, pairs.has)
    others = m - 1 if pairs.excluded is None else m - pairs.excluded.sum(1)
    of_others = pairs.emptied(penalty.value(y)), pairs.emptied(penalty.slope(y))
    return positive, Kind(*of_others, others)


def of_labelled(
    comparison: Comparison, scaled: Float[Tensor, "n m"], limits: Limits, penalty: Penalty
) -> tuple[Kind, Kind]:
    """The positive and the negative terms of related rows."""
    pairs = related(comparison.relation, scaled)
    masks = pairs.positive, 1 - pairs.excluded
    found = [
        Kind(penalty.value(x) * mask, penalty.slope(x) * mask, mask.sum(1))
        for x, mask in zip((limits.positive - scaled, scaled - limits.negative), masks, strict=True)
    ]
    return found[0], found[1]


def weights(
    positive: Kind, negative: Kind, loss: EveryPairLoss, n: int
) -> tuple[float | Tensor, float | Tensor]:
    """What the terms of both kinds are multiplied by."""
    if loss.reduction == "sum":
        return loss.share, loss.share
    counts = [
        kind.pairs(n) if loss.reduction == "mean" else kind.active()
        for kind in (positive, negative)
    ]
    if loss.apart:
        of_positive, of_negative = (over(loss.share, count) for count in counts)
        return of_positive, of_negative
    if loss.reduction == "mean":
        of_all = positive.counts + negative.counts
        some = n * min(of_all, 1) if isinstance(of_all, int) else of_all.clamp(max=1).sum()
        weight = over(loss.share, some)
    else:
        weight = over(loss.share, counts[0] + counts[1])
    return weight, weight


def over(share: float, count: float | Float[Tensor, ""]) -> float | Float[Tensor, ""]:
    """A share for each of a number of terms."""
    return share / (count.clamp(min=1) if isinstance(count, Tensor) else max(count, 1))
