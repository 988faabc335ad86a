"""The matrix of scores of a small batch, and the gradients that flow back through it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor

from hardneg.ops.comparison import Embeddings, zero_or_nan
from hardneg.ops.geometry import unit_rows
from hardneg.ops.requests import Wanted
from hardneg.ops.tiled.pair_scores import row_lengths
from hardneg.ops.tiled.score_matrix import score_matrix, score_matrix_backward
from hardneg.similarities import Cosine, Order, upcast

if TYPE_CHECKING:
    from jaxtyping import Float

__all__ = ["Matrix"]


class Matrix(NamedTuple):
    """All scores, and what their gradients need.

    Attributes:
        similarity: of the rows.
        rows, columns: the embeddings, or with ``units`` those divided by their lengths; one tensor for one set.
        scores: the matrix, in float32 or float64.
        of_rows, of_columns: for cosine the lengths, or with ``units`` their inverses.
        finite: 0, or NaN where an embedding is not finite; None where all are known to be.
        units: whether rows were divided by their lengths before they were multiplied, else scores after.
    """

    similarity: Any
    rows: Float[Tensor, "n d"]
    columns: Float[Tensor, "m d"]
    scores: Float[Tensor, "n m"]
    of_rows: Float[Tensor, "n"] | None = None
    of_columns: Float[Tensor, "m"] | None = None
    finite: Float[Tensor, ""] | None = None
    units: bool = False

    @classmethod
    def of(cls, similarity: Any, queries: Tensor, candidates: Tensor) -> Matrix:
        """The scores of all queries with all candidates."""
        if type(similarity) is not Cosine:
            found, *_ = score_matrix(Embeddings(queries, candidates, similarity))
            finite = zero_or_nan(queries, candidates)
            return cls(similarity, queries, candidates, found, finite=finite)
        q = upcast(queries)
        c = q if candidates is queries else upcast(candidates)
        lengths = row_lengths(q, c)  # in range, so finite
        if lengths is None:
            return cls.of_units(similarity, q, c)
        found = torch.mm(q, c.t()).div_(lengths[0][:, None]).div_(lengths[1])
        return cls(similarity, queries, candidates, found, *lengths)

    @classmethod
    def of_units(cls, similarity: Any, q: Tensor, c: Tensor) -> Matrix:
        """The products of unit rows; nothing is asked of the device."""
        rows, of_rows = unit_rows(q)
        columns, of_columns = (rows, of_rows) if c is q else unit_rows(c)
        found = torch.mm(rows, columns.t())
        # the unit row of one that is not finite is NaN, and so are its products
        finite = found.sum() * 0
        return cls(similarity, rows, columns, found, of_rows, of_columns, finite, units=True)

    def gradients(
        self, by_scores: Float[Tensor, "n m"], wanted: Wanted
    ) -> tuple[Tensor | None, Tensor | None]:
        """The gradients of queries and candidates in the type of the scores; of one set, all with the queries.

        May overwrite the derivatives by the scores.
        """
        if self.columns is self.rows and type(self.similarity) is not Order:
            by_scores, wanted = by_scores + by_scores.t(), Wanted(True, False)
        if self.of_rows is not None and self.of_columns is not None:
            of_cosines = self.of_unit_rows if self.units else self.of_quotients
            return of_cosines(by_scores, wanted, self.of_rows, self.of_columns)
        embeddings = Embeddings(self.rows, self.columns, self.similarity)
        none = self.scores.new_zeros(len(self.rows)), self.scores.new_zeros(len(self.columns))
        dq, dc = score_matrix_backward(embeddings, self.scores, none, by_scores, wanted)
        return (dq if wanted.queries else None), (dc if wanted.candidates else None)

    def of_quotients(
        self,
        by_scores: Float[Tensor, "n m"],
        wanted: Wanted,
        of_rows: Float[Tensor, "n"],
        of_columns: Float[Tensor, "m"],
    ) -> tuple[Tensor | None, Tensor | None]:
        """Products with the weights, less what lies along the rows."""
        q, c = upcast(self.rows), upcast(self.columns)
        along = by_scores * self.scores
        weights = by_scores.div_(of_rows[:, None]).div_(of_columns)
        dq = dc = None
        if wanted.queries:
            pull = along.sum(1).div_(of_rows).div_(of_rows)
            dq = torch.mm(weights, c).addcmul_(q, pull[:, None], value=-1)
        if wanted.candidates:
            pull = along.sum(0).div_(of_columns).div_(of_columns)
            dc = torch.mm(weights.t(), q).addcmul_(c, pull[:, None], value=-1)
        return dq, dc

    def of_unit_rows(
        self,
        by_scores: Float[Tensor, "n m"],
        wanted: Wanted,
        of_rows: Float[Tensor, "n"],
        of_columns: Float[Tensor, "m"],
    ) -> tuple[Tensor | None, Tensor | None]:
        """The same with unit rows, and the lengths at the end."""
        along = by_scores * self.scores
        dq = dc = None
        if wanted.queries:
            dq = torch.mm(by_scores, self.columns)
            dq.addcmul_(self.rows, along.sum(1, keepdim=True), value=-1).mul_(of_rows[:, None])
        if wanted.candidates:
            dc = torch.mm(by_scores.t(), self.rows)
            dc.addcmul_(self.columns, along.sum(0)[:, None], value=-1).mul_(of_columns[:, None])
        return dq, dc
