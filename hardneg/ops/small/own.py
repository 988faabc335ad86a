"""Own negatives in a small batch: further columns of the matrix, of every row's own embeddings."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import pad

from hardneg.ops.comparison import Comparison, related_mask, zero_or_nan
from hardneg.ops.geometry import unit_rows
from hardneg.ops.own import OwnNegatives
from hardneg.ops.requests import Wanted
from hardneg.ops.small.matrix import (
    Matrix,
    Pulls,
    Quotients,
    Scale,
    UnitProducts,
    gradients,
    oddness,
    scaled_,
)
from hardneg.ops.tiled.pair_scores import in_range
from hardneg.similarities import Cosine, Dot, upcast

if TYPE_CHECKING:
    from jaxtyping import Float

__all__ = ["WithOwn", "beside_own", "takes_own"]

ALONE, SHARED = 1 << 18, 1 << 21
"""Up to how many scores are computed: where only the own negatives count, those of the candidates are for nothing."""


def takes_own(comparison: Comparison, own: OwnNegatives) -> bool:
    """Whether own negatives may be further columns of a matrix."""
    (n, k), m = own.embeddings.shape[:2], comparison.candidates.shape[0]
    small = n * (m + k) <= (ALONE if own.alone else SHARED)
    return small and type(comparison.similarity) in (Cosine, Dot)


def beside_own(comparison: Comparison, own: OwnNegatives) -> Comparison:
    """The comparison, with a relation that knows the own negatives as columns behind the candidates."""
    (n, k), m = own.embeddings.shape[:2], comparison.candidates.shape[0]
    relation = comparison.relation
    whole = slice(0, n), slice(0, m)
    kin, ignore = related_mask(relation, *whole), relation.ignore
    if own.alone:
        batch = ~torch.eye(n, m, dtype=torch.bool, device=comparison.queries.device)
        batch = batch if kin is None else batch & ~kin
        ignore = batch if ignore is None else ignore | batch
    if own.admitted is not None or ignore is not None:
        of_own = pad(~own.admitted, (m, 0)) if own.admitted is not None else None
        of_batch = None if ignore is None else pad(ignore, (0, k))
        ignore = of_batch if of_own is None else of_own if of_batch is None else of_own | of_batch
    positives = None if kin is None else pad(kin, (0, k))
    relation = replace(relation, row_ids=None, column_ids=None, positives=positives, ignore=ignore)
    return replace(comparison, relation=relation)


class OwnProducts(NamedTuple):
    """Products of every row with its own ones.

    Attributes:
        rows, own: as they are, or divided by their lengths.
        scores: the products, scaled; of cosines divided by the lengths.
        to_rows, to_own: what the derivatives by the scores are multiplied by on their way to either side.
        lengths: of cosines, what is taken off either side along itself: a factor of score times derivative.
        finite: whether all embeddings are known to be finite.
    """

    rows: Float[Tensor, "n d"]
    own: Float[Tensor, "n k d"]
    scores: Float[Tensor, "n k"]
    to_rows: Scale
    to_own: Scale
    lengths: tuple[Float[Tensor, "n 1"], Float[Tensor, "n k"]] | None = None
    finite: bool = False

    def pulls(self, by_scores: Float[Tensor, "n k"], rows: bool, own: bool) -> Pulls:
        """The gradients of the rows and of their own ones; None for a frozen side."""
        along, dq, do = by_scores * self.scores, None, None
        if rows:
            dq = torch.bmm(times(by_scores, self.to_rows)[:, None], self.own)[:, 0]
            if self.lengths is not None:
                dq.addcmul_(self.rows, along.sum(1, keepdim=True).mul_(self.lengths[0]), value=-1)
        if own:
            do = times(by_scores, self.to_own)[..., None] * self.rows[:, None]
            if self.lengths is not None:
                do.addcmul_(self.own, along.mul_(self.lengths[1])[..., None], value=-1)
        return dq, do


def times(x: Float[Tensor, "n k"], scale: Scale) -> Float[Tensor, "n k"]:
    """Numbers times a factor."""
    return x if scale is None else x * scale


def row_products(rows: Float[Tensor, "n d"], own: Float[Tensor, "n k d"]) -> Float[Tensor, "n k"]:
    """The product of every row with each of its own ones."""
    return torch.bmm(rows[:, None], own.transpose(1, 2))[:, 0]


def own_products(
    shared: Matrix, queries: Float[Tensor, "n d"], own: Float[Tensor, "n k d"], scale: Scale
) -> OwnProducts:
    """Those of the embeddings, in the way of the scores that they share."""
    if isinstance(shared, Quotients):
        lengths, of_rows = torch.linalg.vector_norm(own, dim=2), shared.of_queries
        if in_range(lengths):
            share = times((lengths * of_rows).reciprocal_(), scale)
            squares = (of_rows * of_rows).reciprocal_(), lengths.square().reciprocal_()
            scores = row_products(queries, own).mul_(share)
            return OwnProducts(queries, own, scores, share, share, squares, finite=True)
    if not isinstance(shared, Quotients | UnitProducts):
        scores = scaled_(row_products(queries, own), scale)
        return OwnProducts(queries, own, scores, scale, scale)
    rows, of_rows = unit_rows(queries)
    unit, of_own = (x.unflatten(0, own.shape[:2]) for x in unit_rows(own.flatten(0, 1)))
    inverse = of_rows[:, None], of_own
    scores = scaled_(row_products(rows, unit), scale)
    to_rows, to_own = times(inverse[0], scale), times(inverse[1], scale)
    return OwnProducts(rows, unit, scores, to_rows, to_own, inverse)


class WithOwn(NamedTuple):
    """A matrix with own negatives behind the candidates.

    Attributes:
        shared: the scores of the candidates.
        own: those of the own negatives.
        scores: both.
        oddness: 0, or NaN where an embedding is not finite; None where all are known to be.
    """

    shared: Matrix
    own: OwnProducts
    scores: Float[Tensor, "n m+k"]
    oddness: Float[Tensor, ""] | None

    @classmethod
    def of(
        cls, shared: Matrix, queries: Tensor, candidates: Tensor, own: Tensor, scale: Scale
    ) -> WithOwn:
        """The scores of embeddings, of which those of the candidates are known."""
        found = own_products(shared, upcast(queries), upcast(own), scale)
        odd = oddness(shared, queries, candidates)
        if not found.finite:
            odd = zero_or_nan(own) if odd is None else odd + zero_or_nan(own)
        return cls(shared, found, torch.cat([shared.scores, found.scores], dim=1), odd)

    def pulls(
        self,
        one_set: bool,
        similarity: Any,
        by_scores: Float[Tensor, "n m+k"],
        wanted: Wanted,
        of_own: bool,
    ) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
        """The gradients of queries, candidates and own negatives; may overwrite the derivatives."""
        m = self.shared.scores.shape[1]
        by_shared, by_own = by_scores[:, :m], by_scores[:, m:]
        dq = dc = None
        if wanted.embeddings:
            dq, dc = gradients(self.shared, one_set, similarity, by_shared, wanted)
        further, do = self.own.pulls(by_own, wanted.queries, of_own)
        return dq if dq is None or further is None else dq.add_(further), dc, do
