"""The terms of (anchor, positive) pairs over selected negatives, and their derivatives."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from torch import Tensor

from hardneg.ops.requests import LabelledLoss, PairedLoss
from hardneg.ops.small.chosen import Chosen
from hardneg.ops.small.pairs import FAR
from hardneg.penalties import softplus

if TYPE_CHECKING:
    from jaxtyping import Float

__all__ = ["Terms", "terms_of"]


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


def terms_of(
    chosen: Chosen, positives: Float[Tensor, "n"], loss: PairedLoss | LabelledLoss
) -> Terms:
    """The terms of pairs with these positives."""
    return (penalties if loss.scale is None else softmax)(chosen, positives, loss)


def penalties(
    chosen: Chosen, positives: Float[Tensor, "n"], loss: PairedLoss | LabelledLoss
) -> Terms:
    """``phi(margin - positive + negative)``."""
    assert loss.penalty is not None
    x = chosen.scores - (positives - loss.margin)[:, None]
    values, slopes = loss.penalty.value(x), loss.penalty.slope(x)
    if chosen.there is None:
        return Terms(values, slopes)
    return Terms(values * chosen.there, slopes * chosen.there)


def softmax(
    chosen: Chosen, positives: Float[Tensor, "n"], loss: PairedLoss | LabelledLoss
) -> Terms:
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
