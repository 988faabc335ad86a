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
        by_scores: its derivative by every scaled score; None where it is not wanted.
        by_scale: that by the scale, but for what the scores depend on it; None for 0.
    """

    value: Float[Tensor, ""]
    by_scores: Float[Tensor, "n m"] | None = None
    by_scale: Float[Tensor, ""] | None = None

    def plus(self, other: Slopes) -> Slopes:
        """A sum of two losses."""
        pairs = zip(self[1:], other[1:], strict=True)
        added = (None if a is None or b is None else a + b for a, b in pairs)
        return Slopes(self.value + other.value, *added)
