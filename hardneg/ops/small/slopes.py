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
        by_scale, by_bias: those by the scale and the bias; None where they are not wanted.
    """

    value: Float[Tensor, ""]
    by_scores: Float[Tensor, "n m"] | None = None
    by_scale: Float[Tensor, ""] | None = None
    by_bias: Float[Tensor, ""] | None = None

    def plus(self, other: Slopes) -> Slopes:
        """A sum of two losses."""
        derivatives = zip(self[1:], other[1:], strict=True)
        added = (None if a is None or b is None else a + b for a, b in derivatives)
        return Slopes(self.value + other.value, *added)
