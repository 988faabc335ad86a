"""Distances and order violations of few rows, with the differences of all pairs kept for their gradients."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor

from hardneg.ops.requests import Wanted
from hardneg.similarities import Euclidean, Order, SquaredEuclidean

if TYPE_CHECKING:
    from jaxtyping import Float

__all__ = ["Differences", "takes_differences"]

FEW = 1 << 18
"""Up to so many differences of coordinates in all they take less time than getting ready for a product."""


def takes_differences(similarity: Any, q: Float[Tensor, "n d"], c: Float[Tensor, "m d"]) -> bool:
    """Whether it is a distance of few rows."""
    few = len(q) * c.numel() <= FEW
    return few and type(similarity) in (Euclidean, SquaredEuclidean, Order)


class Differences(NamedTuple):
    """Scores that are the negated lengths of differences.

    Attributes:
        apart: candidate less query, or the other way round where ``reversed``; of an order what exceeds.
        scores: times the scale.
        distances: lengths; None where scores are squares.
        scale: of the scores.
        reversed: of an order whose queries are the general side.
        clamped: whether what does not exceed is 0.
    """

    apart: Float[Tensor, "n m d"]
    scores: Float[Tensor, "n m"]
    distances: Float[Tensor, "n m"] | None
    scale: float | Tensor | None
    reversed: bool
    clamped: bool

    @classmethod
    def of(
        cls,
        similarity: Any,
        q: Float[Tensor, "n d"],
        c: Float[Tensor, "m d"],
        scale: float | Tensor | None,
    ) -> Differences:
        """Those of all pairs."""
        order = type(similarity) is Order
        turned = order and similarity.general == "queries"
        apart = q[:, None] - c if turned else c - q[:, None]
        if order:
            apart.clamp_(min=0)
        if type(similarity) is SquaredEuclidean:
            distances, scores = None, apart.square().sum(2).neg_()
        else:
            distances = torch.linalg.vector_norm(apart, dim=2)
            scores = distances.neg()
        if scale is not None:
            scores.mul_(scale)
        return cls(apart, scores, distances, scale, turned, order)

    def pulls(
        self, by_scores: Float[Tensor, "n m"], wanted: Wanted
    ) -> tuple[Tensor | None, Tensor | None]:
        """Sums of the differences, divided by their lengths; nothing from equal rows."""
        weights = by_scores if self.scale is None else by_scores.mul_(self.scale)
        if self.distances is None:
            weights.mul_(2)
        else:  # squares of shorter ones vanish
            shortest = torch.finfo(weights.dtype).tiny ** 0.5
            weights.div_(self.distances.clamp(min=shortest))
        dq = dc = None
        if wanted.queries:
            pull = torch.bmm(weights[:, None], self.apart)[:, 0]
            dq = pull.neg_() if self.reversed else pull
        if wanted.candidates:
            pull = (weights[:, :, None] * self.apart).sum(0)
            dc = pull if self.reversed else pull.neg_()
        return dq, dc
