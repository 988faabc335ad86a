"""The scores by which ranks are decided, and how far they are rounded."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from hardneg.ops.comparison import Comparison, Relation
from hardneg.ops.geometry import central_row, unit_rows
from hardneg.ops.tiled.grid import chunks
from hardneg.similarities import (
    Cosine,
    Dot,
    Euclidean,
    Similarity,
    SquaredEuclidean,
    is_builtin,
    working,
)

if TYPE_CHECKING:
    from jaxtyping import Float

__all__ = ["Ranking", "ranking"]

ROWS_AT_ONCE = 1024


@dataclass(frozen=True, eq=False)
class Ranking:
    """A comparison whose scores order the candidates, with the rounding bound of those scores.

    Two scores ``s`` and ``t`` of query i count as tied where they differ by at most
    ``absolute[i] + relative * |s|``.

    Scores of the library's similarities are float64 products whatever the type of the embeddings:
    among 25,000 candidates, float32 scores of neighbours are closer than their rounding error, so
    ranks would depend on the order of summation. In float64 the worst case is small enough to be
    used as it stands. A sum of d products has an error of at most ``d eps/2 |q| |c|`` (Higham,
    Accuracy and Stability of Numerical Algorithms, 3.1), normalisation adds ``(d/2 + 2) eps/2``
    of the score, and two scores are compared: ``2 (d + 4) eps max|c| |q|`` covers all of them. That
    is 5e-13 of the range at d = 1024, while 25,000 random candidates lie 1e-6 of it apart; integers
    of ordinary size tie only where they are equal. Euclidean distances are ranked by the product
    ``2 q.c - |q|^2 - |c|^2`` of centred embeddings, with ``(|q| + max|c|)^2`` in place of
    ``max|c| |q|``; float64 embeddings and order violations take differences, whose error is
    relative: ``(d + 4) eps`` of the score. A callable sees the precision in which losses are
    computed (float32, or float64 for float64); ``2 sqrt(d) eps`` of its score is allowed for.
    """

    comparison: Comparison
    absolute: Float[Tensor, "n"]
    relative: float

    def tie_bound(self, scores: Float[Tensor, "r l"], rows: slice) -> Float[Tensor, "r l"]:
        """How far below a score a rival still counts as ranked before it."""
        return self.absolute[rows, None] + self.relative * scores.abs()


def ranking(queries: Tensor, candidates: Tensor, similarity: Similarity) -> Ranking:
    """The comparison in ranking precision, collapsed embeddings taken as equal."""
    q, c = queries.detach(), candidates.detach()
    width = q.shape[1]
    radius = collapse_radius(q.dtype, width)
    if not is_builtin(similarity):
        q, c = as_one(working(q), radius), as_one(working(c), radius)
        relative = 2 * width**0.5 * torch.finfo(q.dtype).eps
        return Ranking(compared(q, c, similarity), q.new_zeros(len(q)), relative)
    differences = q.dtype == torch.float64
    q, c = q.double(), c.double()
    if isinstance(similarity, Cosine):
        q, c, similarity = unit_rows(q)[0], unit_rows(c)[0], Dot()
    q, c = as_one(q, radius), as_one(c, radius)
    eps = (width + 4) * torch.finfo(torch.float64).eps
    if isinstance(similarity, Dot):
        return Ranking(compared(q, c, similarity), 2 * eps * lengths(q) * largest_length(c), 0.0)
    if isinstance(similarity, Euclidean | SquaredEuclidean) and not differences:
        centre = central_row(c)
        q, c = q - centre, c - centre
        absolute = 2 * eps * (lengths(q) + largest_length(c)).square()
        return Ranking(compared(*as_product(q, c), Dot()), absolute, 0.0)
    relative = 2 * eps if isinstance(similarity, SquaredEuclidean) else eps
    return Ranking(compared(q, c, similarity), q.new_zeros(len(q)), relative)


def compared(queries: Tensor, candidates: Tensor, similarity: Similarity) -> Comparison:
    """A comparison whose relation is kept elsewhere."""
    return Comparison(queries, candidates, similarity, Relation())


def lengths(x: Float[Tensor, "n d"]) -> Float[Tensor, "n"]:
    """L2 norms of the rows."""
    return torch.linalg.vector_norm(x, dim=1)


def largest_length(x: Float[Tensor, "n d"]) -> Float[Tensor, ""]:
    """The largest finite norm: a broken row must not make everybody tie."""
    return torch.nan_to_num(lengths(x), 0.0, 0.0, 0.0).max()


def as_product(q: Float[Tensor, "n d"], c: Float[Tensor, "m d"]) -> tuple[Tensor, Tensor]:
    """Rows of width d + 2 whose product is the negated squared distance; exact on integers."""
    ones_q, ones_c = torch.ones_like(q[:, :1]), torch.ones_like(c[:, :1])
    square_q, square_c = (q * q).sum(1, keepdim=True), (c * c).sum(1, keepdim=True)
    return torch.cat([2 * q, -square_q, -ones_q], 1), torch.cat([c, ones_c, square_c], 1)


def as_one(x: Float[Tensor, "n d"], radius: float) -> Float[Tensor, "n d"]:
    """The embeddings, or copies of their first one where all are equal to it to within rounding.

    Exact arithmetic would rank a collapsed model by its rounding noise. Hence embeddings of which
    every one lies within ``radius`` of the first, relative to its length, are taken as equal. The
    sign is left out of it, since normalised rows of rank one are plus or minus one direction. Rows
    with NaN or inf stay what they are. Embeddings that differ are told apart by the first few.
    """
    usable = x[:ROWS_AT_ONCE].isfinite().all(dim=1)
    first = x[usable.byte().argmax()]
    bound = radius * torch.linalg.vector_norm(first)
    equal = torch.empty_like(x)
    for rows in chunks(len(x), ROWS_AT_ONCE):
        finite = x[rows].isfinite().all(dim=1)
        signs = torch.where(torch.mv(x[rows], first) < 0, -1.0, 1.0).to(x.dtype)[:, None]
        if not bool(((lengths(x[rows] - signs * first) <= bound) | ~finite).all()):
            return x
        equal[rows] = torch.where(finite[:, None], signs * first, x[rows])
    return equal


def collapse_radius(dtype: torch.dtype, width: int) -> float:
    """``6 (eps + sqrt(d) eps')``: eps of the embeddings' type, eps' of the type of losses."""
    exact = torch.float64 if dtype == torch.float64 else torch.float32
    return 6 * (torch.finfo(dtype).eps + width**0.5 * torch.finfo(exact).eps)
