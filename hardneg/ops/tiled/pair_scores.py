"""Scores of listed pairs, recomputed exactly from the embeddings, with a deterministic sparse backward."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from hardneg.ops.tiled.grid import chunks
from hardneg.ops.tiled.scores import project_out_length, unit_rows
from hardneg.similarities import (
    Cosine,
    Dot,
    Order,
    SquaredEuclidean,
    is_closed,
    scores_of,
    working,
)

if TYPE_CHECKING:
    from jaxtyping import Float, Int

__all__ = ["pair_scores", "pair_scores_backward"]

GATHERED_ELEMENTS = 1 << 17
LARGE = 1 << 20
FEW, WORTH = 1 << 18, 128
CALLABLE_PAIRS = 16


class Rows:
    """The rows that a chunk of pairs names: a view where they follow one another, else a copy."""

    def __init__(self, x: Float[Tensor, "n d"], pairs: int) -> None:
        self.x, self.copies = x, x.new_empty(pairs, x.shape[1])
        self.asked = x.device.type == "cpu" and x.numel() >= LARGE

    def take(self, index: Int[Tensor, "t"]) -> tuple[Float[Tensor, "t d"], slice | None]:
        """The rows, read-only, and the slice that the index spells out, if it is one."""
        run = self.run(index)
        if run is not None:
            return self.x[run], run
        return torch.index_select(self.x, 0, index, out=self.copies[: len(index)]), None

    def run(self, index: Int[Tensor, "t"]) -> slice | None:
        """The slice, where the index is one; not asked of few rows, or where it would synchronise."""
        if not self.asked:
            return None
        first = int(index[0])
        last = first + len(index)
        return slice(first, last) if torch.equal(index, torch.arange(first, last)) else None


def chunk_size(similarity: Any, queries: Tensor, pairs: int) -> int:
    """Pairs at a time: what fits a buffer; no more than one pair a query where that would break runs."""
    if not is_closed(similarity):
        return CALLABLE_PAIRS
    rows, width = queries.shape
    fitting = max(1, GATHERED_ELEMENTS // width)
    return max(1, pairs) if pairs <= fitting else min(rows, fitting)


def row_lengths(
    q: Float[Tensor, "n d"], c: Float[Tensor, "m d"]
) -> tuple[Float[Tensor, "n"], Float[Tensor, "m"]] | None:
    """Lengths of all rows where products of any two stay in range, else None; asked on a CPU only."""
    if q.device.type != "cpu":
        return None
    lengths = torch.linalg.vector_norm(q, dim=1), torch.linalg.vector_norm(c, dim=1)
    info = torch.finfo(q.dtype)
    both = torch.cat(lengths)
    inside = bool(both.amin() > info.tiny**0.25) and bool(both.amax() < info.max**0.25)
    return lengths if inside else None


def pair_scores(
    similarity: Any,
    queries: Float[Tensor, "n d"],
    candidates: Float[Tensor, "m d"],
    rows: Int[Tensor, "t"],
    columns: Int[Tensor, "t"],
) -> Float[Tensor, "t"]:
    """See ``reference.pair_scores``."""
    valid = (rows >= 0) & (columns >= 0)
    rows, columns = rows.clamp(min=0), columns.clamp(min=0)
    q, c = working(queries), working(candidates)
    if isinstance(similarity, Cosine):
        lengths = row_lengths(q, c)
        if lengths is None:
            found = listed(Dot(), unit_rows(q)[0], unit_rows(c)[0], rows, columns)
        else:
            found = listed(Dot(), q, c, rows, columns)
            found = found / (lengths[0][rows] * lengths[1][columns])
    else:
        found = listed(similarity, q, c, rows, columns)
    return torch.where(valid, found, 0.0)


def listed(
    similarity: Any, q: Float[Tensor, "n d"], c: Float[Tensor, "m d"], rows: Tensor, columns: Tensor
) -> Float[Tensor, "t"]:
    """Scores of the pairs, a chunk at a time."""
    size = chunk_size(similarity, q, len(rows))
    of_queries, of_candidates = Rows(q, size), Rows(c, size)
    scratch, found = q.new_empty(size, q.shape[1]), q.new_empty(len(rows))
    for part in chunks(len(rows), size):
        left, _ = of_queries.take(rows[part])
        right, _ = of_candidates.take(columns[part])
        found[part] = score_rows(similarity, left, right, scratch[: len(left)])
    return found


def score_rows(
    similarity: Any, q: Float[Tensor, "t d"], c: Float[Tensor, "t d"], out: Float[Tensor, "t d"]
) -> Float[Tensor, "t"]:
    """Row i of one against row i of the other; ``out`` is scratch."""
    if not is_closed(similarity):
        with torch.no_grad():
            return scores_of(similarity, q, c).diagonal()
    if isinstance(similarity, Dot):
        return torch.mul(q, c, out=out).sum(1)
    distance = torch.linalg.vector_norm(separation(similarity, q, c, out), dim=1)
    return -distance.square() if isinstance(similarity, SquaredEuclidean) else -distance


def separation(similarity: Any, q: Tensor, c: Tensor, out: Tensor) -> Float[Tensor, "t d"]:
    """What a distance is the length of: the difference, or the violation of an order."""
    if not isinstance(similarity, Order):
        return torch.sub(c, q, out=out)
    first, second = (c, q) if similarity.general == "candidates" else (q, c)
    return torch.sub(first, second, out=out).clamp_(min=0)


def pair_scores_backward(
    similarity: Any,
    queries: Float[Tensor, "n d"],
    candidates: Float[Tensor, "m d"],
    rows: Int[Tensor, "t"],
    columns: Int[Tensor, "t"],
    gradient: Float[Tensor, "t"],
) -> tuple[Float[Tensor, "n d"], Float[Tensor, "m d"]]:
    """Gradients of queries and candidates; on a CPU pairs without a gradient are passed over."""
    live = (rows >= 0) & (columns >= 0)
    gradient = torch.where(live, gradient, 0.0)
    rows, columns = rows.clamp(min=0), columns.clamp(min=0)
    if queries.device.type == "cpu":
        which = gradient.nonzero()[:, 0]
        if len(which) < 0.7 * len(rows):
            rows, columns, gradient = rows[which], columns[which], gradient[which]
    q, c = working(queries), working(candidates)
    pairs = rows, columns, gradient
    found = cosine_gradients(q, c, *pairs) if isinstance(similarity, Cosine) else None
    dq, dc = found or listed_gradients(similarity, q, c, *pairs)
    return dq.to(queries.dtype), dc.to(candidates.dtype)


def cosine_gradients(
    q: Tensor, c: Tensor, rows: Tensor, columns: Tensor, gradient: Tensor
) -> tuple[Tensor, Tensor]:
    """The inner product's gradients, less what lies along the rows themselves."""
    lengths = row_lengths(q, c)
    if lengths is None:
        (q, inverse_q), (c, inverse_c) = unit_rows(q), unit_rows(c)
        dq, dc = listed_gradients(Dot(), q, c, rows, columns, gradient)
        project_out_length(dq, q, inverse_q)
        project_out_length(dc, c, inverse_c)
        return dq, dc
    gradient = gradient / (lengths[0][rows] * lengths[1][columns])
    dq, dc = listed_gradients(Dot(), q, c, rows, columns, gradient)
    for x, g, length in ((q, dq, lengths[0]), (c, dc, lengths[1])):
        for part in chunks(len(x), max(1, GATHERED_ELEMENTS // x.shape[1])):
            along = torch.linalg.vecdot(x[part], g[part]) / length[part].square()
            g[part].addcmul_(x[part], along[:, None], value=-1)
    return dq, dc


def listed_gradients(
    similarity: Any,
    q: Float[Tensor, "n d"],
    c: Float[Tensor, "m d"],
    rows: Tensor,
    columns: Tensor,
    gradient: Float[Tensor, "t"],
) -> tuple[Float[Tensor, "n d"], Float[Tensor, "m d"]]:
    """Sums over the pairs, a chunk at a time, in a fixed order."""
    if isinstance(similarity, Dot) and len(q) * len(c) <= min(FEW, len(rows) * WORTH):
        weights = weight_matrix(len(q), len(c), rows, columns, gradient)
        return weights @ c, weights.T @ q
    dq = torch.zeros_like(q, memory_format=torch.contiguous_format)
    dc = torch.zeros_like(c, memory_format=torch.contiguous_format)
    size = chunk_size(similarity, q, len(rows))
    of_queries, of_candidates = Rows(q, size), Rows(c, size)
    scratch = q.new_empty(size, q.shape[1])
    for part in chunks(len(rows), size):
        left, left_run = of_queries.take(rows[part])
        right, right_run = of_candidates.take(columns[part])
        out, weights = scratch[: len(left)], gradient[part]
        if isinstance(similarity, Dot):
            accumulate(dq, rows[part], left_run, right, weights, out)
            accumulate(dc, columns[part], right_run, left, weights, out)
        elif is_closed(similarity):
            away = separation(similarity, left, right, out)
            weights = pull(similarity, away, weights)
            accumulate(dq, rows[part], left_run, away, weights, of_queries.copies[: len(left)])
            accumulate(dc, columns[part], right_run, away, -weights, of_queries.copies[: len(left)])
        else:
            to_q, to_c = differentiate(similarity, left, right, weights)
            ones = torch.ones_like(weights)
            accumulate(dq, rows[part], left_run, to_q, ones, out)
            accumulate(dc, columns[part], right_run, to_c, ones, out)
    return dq, dc


def weight_matrix(
    n: int, m: int, rows: Tensor, columns: Tensor, gradient: Float[Tensor, "t"]
) -> Float[Tensor, "n m"]:
    """The pairs' gradients as a matrix smaller than a tile: for few rows two products beat gathering."""
    weights = gradient.new_zeros(n * m)
    place = rows * m + columns
    if gradient.device.type == "cpu":
        weights.index_add_(0, place, gradient)
    else:
        weights.index_put_((place,), gradient, accumulate=True)
    return weights.view(n, m)


def pull(similarity: Any, away: Float[Tensor, "t d"], gradient: Tensor) -> Float[Tensor, "t"]:
    """The weight of the separation in the query's gradient; the candidate's is its opposite."""
    if isinstance(similarity, SquaredEuclidean):
        return 2 * gradient
    distance = torch.linalg.vector_norm(away, dim=1)
    weights = torch.where(distance > 0, gradient / distance, 0.0)
    turned = isinstance(similarity, Order) and similarity.general == "queries"
    return -weights if turned else weights


def differentiate(
    similarity: Any, q: Float[Tensor, "t d"], c: Float[Tensor, "t d"], gradient: Float[Tensor, "t"]
) -> tuple[Float[Tensor, "t d"], Float[Tensor, "t d"]]:
    """A callable's gradients of the rows, by autograd."""
    with torch.enable_grad():
        q, c = q.detach().clone().requires_grad_(), c.detach().clone().requires_grad_()
        to_q, to_c = torch.autograd.grad(scores_of(similarity, q, c).diagonal(), (q, c), gradient)
    return to_q, to_c


def accumulate(
    out: Float[Tensor, "n d"],
    index: Int[Tensor, "t"],
    run: slice | None,
    rows: Float[Tensor, "t d"],
    weights: Float[Tensor, "t"],
    scratch: Float[Tensor, "t d"],
) -> None:
    """``out[index] += weights * rows``, deterministic: in order on a CPU, sorted elsewhere."""
    if run is not None:
        out[run].addcmul_(rows, weights[:, None])
        return
    weighted = torch.mul(rows, weights[:, None], out=scratch)
    if out.device.type == "cpu":
        out.index_add_(0, index, weighted)
    else:
        out.index_put_((index,), weighted, accumulate=True)
