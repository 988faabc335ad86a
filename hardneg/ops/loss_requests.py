"""Requests for a whole loss: its terms and their reduction, so that it can be finished in one step."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from hardneg.negatives import Negatives
from hardneg.ops.energies import Energy
from hardneg.penalties import Penalty

__all__ = [
    "EveryPairLoss",
    "LabelledLoss",
    "LossAgainstNegatives",
    "LossRequest",
    "PairedLoss",
    "SupervisedLoss",
    "TwoSidedLoss",
]


@dataclass(frozen=True, eq=False, kw_only=True)
class LossRequest:
    """A whole loss over small scores.

    Attributes:
        negatives: the strategy.
        reduction: ``"mean"``, ``"sum"`` or ``"mean_active"`` of the terms of a direction.
        scale: a factor of the scores, such as 1 / temperature; None for 1.
        bias: added to the scaled scores; None for 0.
        share: a factor of the loss, one half for a mean of two directions.
        queries, candidates: which sides are anchors.
    """

    negatives: Negatives
    reduction: str
    queries: bool
    candidates: bool
    scale: float | Tensor | None = None
    bias: float | Tensor | None = None
    share: float = 1.0


@dataclass(frozen=True, eq=False, kw_only=True)
class LossAgainstNegatives(LossRequest):
    """The loss of positives against negatives: ``phi(margin - positive + negative)``.

    With a scale and no penalty it is the cross-entropy
    ``log(1 + sum over negatives of exp(scale * (margin - positive + negative)))``.

    Attributes:
        margin: added to each difference.
        penalty: phi; None with a scale.
    """

    margin: float
    penalty: Penalty | None = None


@dataclass(frozen=True, eq=False, kw_only=True)
class PairedLoss(LossAgainstNegatives):
    """That of query i with candidate i, the only positive of either."""


@dataclass(frozen=True, eq=False, kw_only=True)
class LabelledLoss(LossAgainstNegatives):
    """That of every pair of an anchor with one of its positives.

    Attributes:
        order: ``"lowest"`` or ``"highest"``: each anchor has one positive, that of such a score; None: all of them.
    """

    order: str | None = None


@dataclass(frozen=True, eq=False, kw_only=True)
class SupervisedLoss(LossRequest):
    """Log-sum-exp of all others of a query less the mean of its positives, all scaled."""


@dataclass(frozen=True, eq=False, kw_only=True)
class EveryPairLoss(LossRequest):
    """Every pair of a query is a term: ``phi(positive - z)`` of its positives, ``phi(z - negative)`` of its negatives.

    Here z is ``scale * score + bias``.

    Attributes:
        positive, negative: thresholds.
        penalty: phi.
        apart: whether a mean is one over positive pairs plus one over negative pairs; else the sum of all terms is
            divided by the number of queries, or of active terms.
    """

    positive: float
    negative: float
    penalty: Penalty
    apart: bool


@dataclass(frozen=True, eq=False, kw_only=True)
class TwoSidedLoss(LossRequest):
    """``softplus(p) * weights[0] + softplus(q) * weights[1]``, or ``softplus(p + q)`` without weights.

    Here p and q are the log-sum-exps of a query's positives and negatives.

    Attributes:
        positive, negative: energies of the exponents.
        weights: of the two sides.
    """

    positive: Energy
    negative: Energy
    weights: tuple[float, float] | None = None
