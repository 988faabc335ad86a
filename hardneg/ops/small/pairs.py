"""``Pairs``: a matrix of scores whose diagonal holds the positives, and who takes part."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from hardneg.ops.comparison import Comparison, admitted_mask

if TYPE_CHECKING:
    from jaxtyping import Float

__all__ = ["FAR", "Pairs"]

FAR = 1e30
"""Taken off the score of what takes no part: it is then below every score."""


@dataclass(frozen=True, eq=False)
class Pairs:
    """Scores of paired rows, and who takes part.

    Masks are numbers, 0 or 1: on a CPU arithmetic on floats takes a tenth of the time of ``where``.

    Attributes:
        scores: the matrix; column i is the candidate of query i.
        excluded: 1 for what is no negative, None where that is the diagonal.
        has: 1 for a query whose own pair is not ignored, None for all.
    """

    scores: Float[Tensor, "n m"]
    excluded: Float[Tensor, "n m"] | None = None
    has: Float[Tensor, "n"] | None = None

    @classmethod
    def of(cls, comparison: Comparison, scores: Float[Tensor, "n m"]) -> Pairs:
        """The pairs of a comparison with these scores."""
        relation, (n, m) = comparison.relation, scores.shape
        ids, positives, ignore = relation.row_ids, relation.positives, relation.ignore
        if ids is None and positives is None and ignore is None:
            return cls(scores)
        taken = admitted_mask(relation, "negatives", slice(0, n), slice(0, m), scores.device)
        excluded = taken.to(scores.dtype).neg_().add_(1)
        has = None if ignore is None else (~ignore.diagonal()[:n]).to(scores.dtype)
        return cls(scores, excluded, has)

    @property
    def positives(self) -> Float[Tensor, "n"]:
        """Scores of the positives."""
        return self.scores.diagonal()

    def beyond(self, margin: float | Tensor) -> Float[Tensor, "n"]:
        """Scores of the positives less a margin, read-only."""
        some = isinstance(margin, Tensor) or margin != 0
        return self.positives - margin if some else self.positives

    def side(self, matrix: Float[Tensor, "n m"], columns: bool) -> Float[Tensor, "n r"]:
        """The anchors of a side as rows: the queries, or the candidates that are paired."""
        if not columns:
            return matrix
        n, m = matrix.shape
        return matrix.t() if n == m else matrix[:, :n].t()

    def padded(self, anchors: Float[Tensor, "n"], fill: float) -> Float[Tensor, "m"]:
        """A number for every candidate: those of the paired ones, then ``fill`` for the further ones."""
        further = self.scores.shape[1] - len(anchors)
        return torch.nn.functional.pad(anchors, (0, further), value=fill) if further else anchors

    def lowered(self, x: Float[Tensor, "n m"]) -> Float[Tensor, "n m"]:
        """A matrix made of scores, with what is excluded far below; in place."""
        if self.excluded is None:
            return x.fill_diagonal_(-FAR)
        return x.sub_(self.excluded, alpha=FAR)

    def emptied(self, x: Float[Tensor, "n m"]) -> Float[Tensor, "n m"]:
        """A matrix with 0 for what is excluded; in place."""
        return x.fill_diagonal_(0.0) if self.excluded is None else x.mul_(1 - self.excluded)

    def valid(self, columns: bool) -> Float[Tensor, "n"] | None:
        """1 for the anchors of a side with a positive and a negative, None where all have them."""
        if self.excluded is None:
            return None
        others = self.side(self.excluded, columns)
        some = (others.shape[1] - others.sum(1)).clamp_(max=1)
        return some if self.has is None else some.mul_(self.has)
