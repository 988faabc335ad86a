"""Which anchors a loss has, and how much their terms count."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from torch import Tensor

from hardneg.ops.loss_requests import LossAgainstNegatives

if TYPE_CHECKING:
    from jaxtyping import Bool, Float

__all__ = ["by_margin", "margin_of", "sides", "term_weights"]


def sides(loss: LossAgainstNegatives) -> tuple[bool, ...]:
    """Whether candidates are the anchors, for each direction."""
    return (False,) * loss.queries + (True,) * loss.candidates


def margin_of(loss: LossAgainstNegatives) -> float | Float[Tensor, ""]:
    """The margin of scaled scores; the number 0 where there is none."""
    return loss.margin if loss.scale is None or loss.margin == 0 else loss.margin * loss.scale


def by_margin(loss: LossAgainstNegatives, pulls: Float[Tensor, "..."]) -> Float[Tensor, ""] | None:
    """What the scale of the margin adds to the derivative by the scale; None for nothing.

    Args:
        pulls: derivatives by the scores of the positives, with the other sign.
    """
    if loss.margin == 0 or not isinstance(loss.scale, Tensor):
        return None
    return pulls.sum() * loss.margin


def term_weights(
    loss: LossAgainstNegatives,
    valid: Float[Tensor, "s n"] | Bool[Tensor, "s n"] | None,
    values: Float[Tensor, "s n ..."],
) -> float | Float[Tensor, "s 1 ..."]:
    """The weight of the terms of a direction; those of anchors that are not ``valid`` are 0 already.

    Args:
        valid: 1 for the anchors that count; None for all.
        values: the terms.
    """
    if loss.reduction == "sum":
        return loss.share
    counted: dict[str, Any] = {"keepdim": True, "dtype": values.dtype}
    if loss.reduction == "mean_active" and loss.scale is None:
        counts = (values > 0).sum((-2, -1), **counted)
    elif valid is None:
        return loss.share / values.shape[1]
    else:
        counts = valid.sum(-1, **counted)
        counts = counts[..., None] if values.dim() == 3 else counts
    return loss.share / counts.clamp_(min=1)
