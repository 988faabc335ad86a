"""Which anchors a loss has, and how much their terms count."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import Tensor

from hardneg.ops.loss_requests import LossAgainstNegatives

if TYPE_CHECKING:
    from jaxtyping import Float

__all__ = ["sides", "term_weights"]


def sides(loss: LossAgainstNegatives) -> tuple[bool, ...]:
    """Whether candidates are the anchors, for each direction."""
    return (False,) * loss.queries + (True,) * loss.candidates


def term_weights(
    loss: LossAgainstNegatives,
    valid: Float[Tensor, "... n"] | None,
    values: Float[Tensor, "... n k"],
) -> float | Float[Tensor, "... 1 1"]:
    """The weight of the terms of a direction; those of anchors that are not ``valid`` are 0 already.

    Args:
        valid: 1 for the anchors that count, None for all.
        values: the terms.
    """
    if loss.reduction == "sum":
        return loss.share
    if loss.reduction == "mean_active" and loss.scale is None:
        counts = (values > 0).sum((-2, -1)).to(values.dtype)
    elif valid is None:
        return loss.share / values.shape[-2]
    else:
        counts = valid.sum(-1)
    return loss.share / counts.clamp_(min=1)[..., None, None]
