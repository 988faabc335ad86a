"""The terms of (anchor, positive) pairs over selected negatives, and their derivatives."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from torch import Tensor

from hardneg.ops.comparison import Comparison
from hardneg.ops.loss_requests import LossAgainstNegatives
from hardneg.ops.small.chosen import Chosen
from hardneg.ops.small.pairs import FAR
from hardneg.penalties import is_builtin, softplus

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
    if loss.penalty is not None and not is_builtin(loss.penalty):
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
        by_scale: the derivatives by the scale; None without.
    """

    values: Float[Tensor, "s n r"]
    by_negatives: Float[Tensor, "s n k"]
    by_scale: Float[Tensor, "s n 1"] | None = None


def terms_of(chosen: Chosen, positives: Float[Tensor, "n"], loss: LossAgainstNegatives) -> Terms:
    """The terms of pairs with these positives."""
    return (penalties if loss.scale is None else softmax)(chosen, positives, loss)


def penalties(chosen: Chosen, positives: Float[Tensor, "n"], loss: LossAgainstNegatives) -> Terms:
    """``phi(margin - positive + negative)``."""
    assert loss.penalty is not None
    x = chosen.scores - (positives - loss.margin)[:, None]
    values, slopes = loss.penalty.value(x), loss.penalty.slope(x)
    if chosen.there is None:
        return Terms(values, slopes)
    return Terms(values * chosen.there, slopes * chosen.there)


def softmax(chosen: Chosen, positives: Float[Tensor, "n"], loss: LossAgainstNegatives) -> Terms:
    """``log(1 + sum of exp(scale * (margin - positive + negative)))``."""
    scale, there = loss.scale, chosen.there
    assert scale is not None
    beyond = (positives - loss.margin)[:, None]
    z = chosen.scores * scale
    if there is not None:
        z = z.sub_(1 - there, alpha=FAR)
    lse = z.logsumexp(2, keepdim=True)
    x = lse - beyond * scale
    values, pull, shares = softplus(x), x.sigmoid(), z.sub_(lse).exp_()
    if there is not None:
        values, pull, shares = values * there[:, :, :1], pull * there[:, :, :1], shares * there
    by_scale = None
    if isinstance(scale, Tensor):
        by_scale = pull * ((shares * chosen.scores).sum(2, keepdim=True) - beyond)
    return Terms(values, shares * (pull * scale), by_scale)
