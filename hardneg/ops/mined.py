"""``Mined``: negatives that a strategy found."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from jaxtyping import Float, Int
    from torch import Tensor

__all__ = ["Mined"]


@dataclass(frozen=True, eq=False, repr=False)
class Mined:
    """The negatives of every query.

    Attributes:
        indices: rows of the corpus, in the order of the strategy (the hardest first); -1 behind the last.
        scores: their scores; -inf behind the last.
        counts: how many were found, at most k.
    """

    indices: Int[Tensor, "n k"]
    scores: Float[Tensor, "n k"]
    counts: Int[Tensor, "n"]

    def __repr__(self) -> str:
        n, k = self.indices.shape
        return f"Mined({k} negatives of {n} queries, {int((self.counts < k).sum())} with fewer)"
