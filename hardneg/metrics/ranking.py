"""The scores by which ranks are decided, and how far they are rounded."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from hardneg.distributed.sharded_rows import ShardedRows
from hardneg.metrics.work_share import rows_here
from hardneg.ops.comparison import Comparison, Relation
from hardneg.ops.geometry import central_row, unit_rows
from hardneg.ops.grid import chunks
from hardneg.ops.precision import has_float64
from hardneg.similarities import (
    Cosine,
    Dot,
    Euclidean,
    Given,
    Similarity,
    SquaredEuclidean,
    is_builtin,
    upcast,
)

if TYPE_CHECKING:
    from jaxtyping import Float, Int

__all__ = ["Ranking", "make_ranking"]

ROWS_AT_ONCE = 1024


@dataclass(frozen=True, eq=False)
class Ranking:
    """A comparison whose scores order the candidates, with the rounding bound of those scores.

    The computed score of query i and candidate j lies within ``bound[i, j]`` of the exact one, and two
    scores count as tied where these ranges meet. The bound belongs to the pair, so a far candidate is
    in doubt itself and leaves the others alone. It is a product as well, and multiplied along with the
    scores: those of ``comparison`` are the upper ends ``score + bound``.

    Scores of the library's similarities are float64 products whatever the type of the embeddings:
    among 25,000 candidates, float32 scores of neighbours are closer than their rounding error, so
    ranks would depend on the order of summation. In float64 the worst case is small enough to be
    used as it stands. A sum of d products has an error of at most ``d eps/2 |q| |c|`` (Higham,
    Accuracy and Stability of Numerical Algorithms, 3.1), normalisation adds ``(d/2 + 2) eps/2``
    of the score: ``(d + 8) eps |q| |c|`` covers them and the sum of score and bound. That
    is 2e-13 of the range at d = 1024, while 25,000 random candidates lie 1e-6 of it apart; integers
    of ordinary size tie only where they are equal. Euclidean distances are ranked by the product
    ``2 q.c - |q|^2 - |c|^2`` of embeddings around a central one, with ``(|q| + |c|)^2`` in place of
    ``|q| |c|``; float64 embeddings and order violations take differences, whose error is
    relative: ``(d + 4) eps`` of the score. A callable sees the precision in which losses are
    computed (float32, or float64 for float64); ``2 sqrt(d) eps`` of its score is allowed for.

    Attributes:
        comparison: what is scored; its relation is kept elsewhere.
        bounds: factors of the queries and of the candidates, whose product is the bound; None for 0.
        relative: what of a score is allowed for besides.
        first: which query the first row of the comparison is; others than 0 where a rank holds its own scores only.
    """

    comparison: Comparison
    bounds: tuple[Float[Tensor, "n k"], Float[Tensor, "m k"]] | None
    relative: float
    first: int = 0

    @property
    def device(self) -> torch.device:
        """Where ranks are computed: the embeddings' device, or the CPU for one without float64."""
        return self.comparison.queries.device

    @property
    def value_device(self) -> torch.device:
        """Where values in float64 are kept: there, or the CPU (under a callable that ranks elsewhere)."""
        return self.device if has_float64(self.device) else torch.device("cpu")

    def without_bounds(self) -> Ranking:
        """The scores themselves, in whose order ties are equal scores."""
        if self.bounds is None:
            return self
        compared, width = self.comparison, self.bounds[0].shape[1]
        q, c = (x[:, :-width].contiguous() for x in (compared.queries, compared.candidates))
        return Ranking(compare_rows(q, c, compared.similarity), None, 0.0, self.first)

    def lower(
        self, upper: Float[Tensor, "r l"], rows: slice, columns: Int[Tensor, "r l"]
    ) -> Float[Tensor, "r l"]:
        """The lower ends of scores of these queries with these candidates, from their upper ends."""
        found = upper - self.relative * upper.abs()  # NaN for an infinite score
        if self.bounds is not None:
            of_queries, of_candidates = self.bounds
            factors = zip(of_queries[rows].unbind(1), of_candidates.unbind(1), strict=True)
            for of_query, of_candidate in factors:
                found = found - 2 * of_query[:, None] * of_candidate[columns]
        return found


def make_ranking(queries: Tensor, candidates: Tensor, similarity: Similarity) -> Ranking:
    """The comparison in ranking precision, collapsed embeddings taken as equal."""
    q, c = queries.detach(), candidates.detach()
    if is_builtin(similarity) and not has_float64(q.device):
        q, c = q.cpu(), c.cpu()
    if type(similarity) is Given:
        dtype = torch.float64 if has_float64(q.device) else torch.float32
        matrix = own_rows(q)
        compared = compare_rows(matrix.to(dtype), matrix.T, similarity)
        return Ranking(compared, None, 0.0, rows_here(len(q)).start)
    width = q.shape[1]
    radius = collapse_radius(q.dtype, width)
    if not is_builtin(similarity):
        q, c = as_one(upcast(q), radius), as_one(upcast(c), radius)
        relative = 2 * width**0.5 * torch.finfo(q.dtype).eps
        return Ranking(compare_rows(q, c, similarity), None, relative)
    differences = q.dtype == torch.float64
    q, c = q.to(torch.float64), c.to(torch.float64)
    if type(similarity) is Cosine:
        q, c, similarity = unit_rows(q)[0], unit_rows(c)[0], Dot()
    q, c = as_one(q, radius), as_one(c, radius)
    eps = torch.finfo(torch.float64).eps
    if type(similarity) is Dot:
        bounds = (width + 8) * eps * lengths(q)[:, None], lengths(c)[:, None]
        return with_bounds(q, c, bounds)
    if type(similarity) in (Euclidean, SquaredEuclidean) and not differences:
        centre = central_row(c)
        q, c = q - centre, c - centre
        return with_bounds(*as_product(q, c), square_of_sum((width + 8) * eps, q, c))
    relative = (width + 4) * eps * (2 if type(similarity) is SquaredEuclidean else 1)
    return Ranking(compare_rows(q, c, similarity), None, relative)


def own_rows(matrix: Float[Tensor, "n m"]) -> Float[Tensor, "r m"]:
    """The rows of given scores that this process holds.

    Raises:
        ValueError: for the columns of a matrix of which every rank holds rows.
    """
    if not isinstance(matrix, ShardedRows):
        return matrix
    if matrix.turned:
        raise ValueError(
            "given scores across ranks are ranked by row, and no rank holds whole columns: gather the scores, or pass "
            "embeddings"
        )
    return matrix.local


def with_bounds(q: Tensor, c: Tensor, bounds: tuple[Tensor, Tensor]) -> Ranking:
    """Products that carry their bounds along."""
    upper = torch.cat([q, bounds[0]], 1), torch.cat([c, bounds[1]], 1)
    return Ranking(compare_rows(*upper, Dot()), bounds, 0.0)


def square_of_sum(
    factor: float, q: Float[Tensor, "n d"], c: Float[Tensor, "m d"]
) -> tuple[Float[Tensor, "n 3"], Float[Tensor, "m 3"]]:
    """``factor * (|q| + |c|)^2`` as a product."""
    of_q, of_c = lengths(q), lengths(c)
    ones_q, ones_c = torch.ones_like(of_q), torch.ones_like(of_c)
    left = factor * torch.stack([of_q.square(), 2 * of_q, ones_q], 1)
    return left, torch.stack([ones_c, of_c, of_c.square()], 1)


def compare_rows(queries: Tensor, candidates: Tensor, similarity: Similarity) -> Comparison:
    """A comparison whose relation is kept elsewhere."""
    return Comparison(queries, candidates, similarity, Relation())


def lengths(x: Float[Tensor, "n d"]) -> Float[Tensor, "n"]:
    """L2 norms of the rows; 0 for a broken one, whose score says all."""
    return torch.nan_to_num(torch.linalg.vector_norm(x, dim=1), 0.0, 0.0, 0.0)


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
        if not bool(
            ((torch.linalg.vector_norm(x[rows] - signs * first, dim=1) <= bound) | ~finite).all()
        ):
            return x
        equal[rows] = torch.where(finite[:, None], signs * first, x[rows])
    return equal


def collapse_radius(dtype: torch.dtype, width: int) -> float:
    """``6 (eps + sqrt(d) eps')``: eps of the embeddings' type, eps' of the type of losses."""
    exact = torch.float64 if dtype == torch.float64 else torch.float32
    found: float = 6 * (torch.finfo(dtype).eps + width**0.5 * torch.finfo(exact).eps)
    return found
