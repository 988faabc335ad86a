"""``Slopes``: a loss over a matrix of scores, and its derivatives."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from torch import Tensor

if TYPE_CHECKING:
    from jaxtyping import Float

__all__ = ["Slopes"]


class Slopes(NamedTuple):
    """A loss and its derivatives.

    Attributes:
        value: the loss.
        by_scores: its derivative by every score; None where it is not wanted.
        by_scale: its derivative by the scale; None where it is not wanted.
    """

    value: Float[Tensor, ""]
    by_scores: Float[Tensor, "n m"] | None = None
    by_scale: Float[Tensor, ""] | None = None
