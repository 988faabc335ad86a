"""The matrix of scores of a small batch, and the gradients that flow back through it."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import torch
from torch import Tensor

from hardneg.ops.comparison import Embeddings, zero_or_nan
from hardneg.ops.geometry import unit_rows
from hardneg.ops.requests import Wanted
from hardneg.ops.small.differences import Differences, takes_differences
from hardneg.ops.tiled.pair_scores import row_lengths
from hardneg.ops.tiled.score_matrix import score_matrix, score_matrix_backward
from hardneg.similarities import Cosine, Order, upcast

if TYPE_CHECKING:
    from jaxtyping import Float

__all__ = ["Matrix", "gradients", "matrix_of", "oddness"]

Scale = float | Tensor | None
"""A factor of all scores."""

Pulls = tuple[Tensor | None, Tensor | None]
"""Gradients of queries and candidates; None for a frozen side."""


class Matrix(Protocol):
    """All scores times their scale in float32 or float64, and what their gradients need."""

    @property
    def scores(self) -> Float[Tensor, "n m"]:
        """The matrix."""

    def pulls(self, by_scores: Float[Tensor, "n m"], wanted: Wanted) -> Pulls:
        """The gradients of the rows of either side, in the type of the scores; may overwrite the derivatives."""


class Quotients(NamedTuple):
    """Cosines as products of the rows, divided by those of their lengths.

    Attributes:
        queries, candidates: as they are.
        scores: the matrix.
        divisors: products of two lengths, divided by the scale.
        of_queries, of_candidates: lengths.
    """

    queries: Float[Tensor, "n d"]
    candidates: Float[Tensor, "m d"]
    scores: Float[Tensor, "n m"]
    divisors: Float[Tensor, "n m"]
    of_queries: Float[Tensor, "n 1"]
    of_candidates: Float[Tensor, "m 1"]

    def pulls(self, by_scores: Float[Tensor, "n m"], wanted: Wanted) -> Pulls:
        """Products with the weights, less what lies along the rows."""
        along, weights = by_scores * self.scores, by_scores.div_(self.divisors)
        q, c, dq, dc = self.queries, self.candidates, None, None
        if wanted.queries:
            pull = along.sum(1, keepdim=True).div_(self.of_queries).div_(self.of_queries)
            dq = torch.mm(weights, c).addcmul_(q, pull, value=-1)
        if wanted.candidates:
            pull = along.t().sum(1, keepdim=True).div_(self.of_candidates).div_(self.of_candidates)
            dc = torch.mm(weights.t(), q).addcmul_(c, pull, value=-1)
        return dq, dc


class UnitProducts(NamedTuple):
    """Cosines as products of rows divided by their lengths; nothing is asked of the device.

    Attributes:
        rows, columns: the unit rows.
        scores: the matrix.
        of_rows, of_columns: inverse lengths.
        scale: of the scores.
    """

    rows: Float[Tensor, "n d"]
    columns: Float[Tensor, "m d"]
    scores: Float[Tensor, "n m"]
    of_rows: Float[Tensor, "n"]
    of_columns: Float[Tensor, "m"]
    scale: Scale

    def pulls(self, by_scores: Float[Tensor, "n m"], wanted: Wanted) -> Pulls:
        """The same with unit rows, and the lengths at the end."""
        along, weights, dq, dc = by_scores * self.scores, scaled_(by_scores, self.scale), None, None
        if wanted.queries:
            dq = torch.mm(weights, self.columns)
            dq.addcmul_(self.rows, along.sum(1, keepdim=True), value=-1).mul_(self.of_rows[:, None])
        if wanted.candidates:
            dc = torch.mm(weights.t(), self.rows)
            dc.addcmul_(self.columns, along.sum(0)[:, None], value=-1)
            dc.mul_(self.of_columns[:, None])
        return dq, dc


class OneTile(NamedTuple):
    """Scores of other similarities, as one tile.

    Attributes:
        embeddings: those that are compared.
        found: their scores.
        scores: those times the scale.
        scale: of the scores.
    """

    embeddings: Embeddings
    found: Float[Tensor, "n m"]
    scores: Float[Tensor, "n m"]
    scale: Scale

    def pulls(self, by_scores: Float[Tensor, "n m"], wanted: Wanted) -> Pulls:
        """Those of the tile."""
        (n, m), weights = self.found.shape, scaled_(by_scores, self.scale)
        none = self.found.new_zeros(n), self.found.new_zeros(m)
        dq, dc = score_matrix_backward(self.embeddings, self.found, none, weights, wanted)
        return (dq if wanted.queries else None), (dc if wanted.candidates else None)


def matrix_of(similarity: Any, queries: Tensor, candidates: Tensor, scale: Scale) -> Matrix:
    """All scores times a scale."""
    q = upcast(queries)
    c = q if candidates is queries else upcast(candidates)
    if type(similarity) is not Cosine:
        if takes_differences(similarity, q, c):
            return Differences.of(similarity, q, c, scale)
        embeddings = Embeddings(queries, candidates, similarity)
        found, *_ = score_matrix(embeddings)
        return OneTile(embeddings, found, found if scale is None else found * scale, scale)
    lengths = row_lengths(q, c)
    if lengths is None:
        rows, of_rows = unit_rows(q)
        columns, of_columns = (rows, of_rows) if c is q else unit_rows(c)
        scores = scaled_product(rows, columns, scale)
        return UnitProducts(rows, columns, scores, of_rows, of_columns, scale)
    of_rows, of_columns = (x[:, None] for x in lengths)
    divisors = of_rows * (of_columns if scale is None else of_columns / scale).t()
    found = torch.mm(q, c.t()).div_(divisors)
    return Quotients(q, c, found, divisors, of_rows, of_columns)


def scaled_product(
    rows: Float[Tensor, "n d"], columns: Float[Tensor, "m d"], scale: Scale
) -> Float[Tensor, "n m"]:
    """Products of all rows with all columns times a scale."""
    if scale is None or isinstance(scale, Tensor):
        return scaled_(torch.mm(rows, columns.t()), scale)
    return torch.addmm(rows.new_empty(()), rows, columns.t(), beta=0, alpha=scale)


def scaled_(x: Float[Tensor, "n m"], scale: Scale) -> Float[Tensor, "n m"]:
    """A matrix times a scale, in place."""
    return x if scale is None else x.mul_(scale)


def gradients(
    matrix: Matrix, one_set: bool, similarity: Any, by_scores: Float[Tensor, "n m"], wanted: Wanted
) -> Pulls:
    """The gradients of queries and candidates in the type of the scores; of one set, all with the queries.

    May overwrite the derivatives by the scores.
    """
    if one_set and type(similarity) is not Order:
        by_scores, wanted = by_scores + by_scores.t(), Wanted(True, False)
    return matrix.pulls(by_scores, wanted)


def oddness(matrix: Matrix, queries: Tensor, candidates: Tensor) -> Float[Tensor, ""] | None:
    """0, or NaN where an embedding is not finite; None where all are known to be."""
    if isinstance(matrix, Quotients):  # whose lengths are in range
        return None
    if isinstance(matrix, UnitProducts):
        # the unit row of one that is not finite is NaN, and so are its products
        return matrix.scores.sum() * 0
    hidden = isinstance(matrix, Differences) and matrix.clamped  # by an order
    if queries.device.type == "cpu" and not hidden and math.isfinite(matrix.scores.sum().item()):
        return None
    return zero_or_nan(queries, candidates)
