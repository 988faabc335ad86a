"""The executor of the definitions: plain autograd over the whole matrix."""

from __future__ import annotations

from dataclasses import dataclass

from hardneg.ops.description import Comparison
from hardneg.ops.whole_matrix import WholeMatrix

__all__ = ["Dense"]


@dataclass(frozen=True)
class Dense(WholeMatrix):
    """For tests, small inputs and second derivatives: O(n m) memory, O(n m d) for order and distances."""

    def scored(self, comparison: Comparison) -> Comparison:
        """The comparison itself: every reduction computes the scores that it needs."""
        return comparison
