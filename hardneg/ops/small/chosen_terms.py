"""The terms of (anchor, positive) pairs over selected negatives, and their derivatives."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from torch import Tensor

from hardneg.ops.comparison import Comparison
from hardneg.ops.loss_requests import LossAgainstNegatives
from hardneg.ops.small.chosen import Chosen
from hardneg.ops.small.weights import margin_of
from hardneg.penalties import VANISHING, softplus

if TYPE_CHECKING:
    from jaxtyping import Float

__all__ = ["Terms", "knows_terms", "terms_of"]

SEVERAL, SPARSE = 8, 1 << 18
"""Up to how many scores a CPU takes less time for whole products than for gathering rows, of fewer than several."""


def knows_terms(loss: LossAgainstNegatives, comparison: Comparison) -> bool:
    """Penalties of this package, and negatives in the order of their scores, or all of them."""
    n, width = comparison.queries.shape
    if n == 1 or loss.negatives.mean_if_closer is not None:
        return False
    if loss.penalty is not None and type(loss.penalty) not in VANISHING:
        return False
    selection = loss.negatives.selection(width)
    if selection is None:
        return loss.negatives.ceiling is None
    cpu, size = comparison.queries.device.type == "cpu", n * len(comparison.candidates)
    sparse = cpu and selection.k < SEVERAL and size > SPARSE
    return selection.order == "highest" and selection.skip < n and not sparse


class Terms(NamedTuple):
    """Terms of the anchors, and their derivatives.

    Attributes:
        values: the terms.
        by_negatives: the derivatives by the negatives' scores; by the positive's it is their sum with the other
            sign.
    """

    values: Float[Tensor, "s n r"]
    by_negatives: Float[Tensor, "s n k"]


def terms_of(chosen: Chosen, positives: Float[Tensor, "n"], loss: LossAgainstNegatives) -> Terms:
    """The terms of pairs with these positives."""
    beyond = (positives - margin_of(loss))[:, None]
    if loss.penalty is not None:
        x = chosen.scores - beyond
        return Terms(loss.penalty.value(x), loss.penalty.slope(x))
    largest = chosen.scores.amax(2, keepdim=True)
    e = chosen.scores.sub(largest).exp_()
    sums = e.sum(2, keepdim=True)
    x = sums.log().add_(largest).sub_(beyond)
    return Terms(softplus(x), e.mul_(x.sigmoid().div_(sums)))
