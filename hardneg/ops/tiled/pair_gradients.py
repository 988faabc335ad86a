"""Gradients of listed pairs' scores: sparse, summed in a fixed order."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from hardneg.ops.geometry import unit_rows
from hardneg.ops.grid import chunks
from hardneg.ops.requests import EVERYTHING, Wanted
from hardneg.ops.tiled.pair_scores import (
    GATHERED_ELEMENTS,
    Rows,
    chunk_size,
    is_dense,
    named_rows,
    products_of,
    row_lengths,
    separation,
)
from hardneg.ops.tiled.side_gradients import accumulators, project_out_length
from hardneg.similarities import (
    Cosine,
    Dot,
    Given,
    Order,
    SquaredEuclidean,
    is_builtin,
    score_dtype,
    scores_of,
    upcast,
)

if TYPE_CHECKING:
    from jaxtyping import Float, Int

__all__ = ["pair_scores_backward"]

FEW, MUCH = 1 << 18, 128
PRODUCT, BLOCKS = 1 << 21, 32


def pair_scores_backward(
    similarity: Any,
    queries: Float[Tensor, "n d"],
    candidates: Float[Tensor, "m d"],
    rows: Int[Tensor, "t"],
    columns: Int[Tensor, "t"],
    gradient: Float[Tensor, "t"],
    wanted: Wanted = EVERYTHING,
) -> tuple[Float[Tensor, "n d"], Float[Tensor, "m d"]]:
    """Gradients of queries and candidates, empty for a frozen side.

    On a CPU pairs without a gradient are passed over.
    """
    live = (rows >= 0) & (columns >= 0)
    gradient = torch.where(live, gradient, 0.0)
    rows, columns = rows.clamp(min=0), columns.clamp(min=0)
    if queries.device.type == "cpu" and int(gradient.count_nonzero()) < 0.7 * len(rows):
        which = gradient.nonzero()[:, 0]
        rows, columns, gradient = rows[which], columns[which], gradient[which]
    if type(similarity) is Given:
        return given_gradients(queries, candidates, rows, columns, gradient, wanted)
    q, c = upcast(queries), upcast(candidates)
    pairs = rows, columns, gradient
    if type(similarity) is Cosine:
        dq, dc = cosine_gradients(q, c, *pairs, wanted)
    else:
        dq, dc = listed_gradients(similarity, q, c, *pairs, wanted)
    return dq, dc


def given_gradients(
    queries: Tensor,
    candidates: Tensor,
    rows: Tensor,
    columns: Tensor,
    gradient: Tensor,
    wanted: Wanted,
) -> tuple[Tensor, Tensor]:
    """The gradients at their places in the matrix, which the queries hold."""
    dtype, (n, m) = score_dtype(queries), queries.shape
    dq = queries.new_zeros(n * m if wanted.queries else 0, dtype=dtype)
    if wanted.queries:
        dq = dq.index_add_(0, rows * m + columns, gradient).view(n, m)
    return dq, candidates.new_zeros(candidates.shape if wanted.candidates else 0, dtype=dtype)


def cosine_gradients(
    q: Tensor, c: Tensor, rows: Tensor, columns: Tensor, gradient: Tensor, wanted: Wanted
) -> tuple[Tensor, Tensor]:
    """The gradients of the rows that pairs name, among zeros for the others."""
    (few_q, places), (few_c, others) = named_rows(q, rows), named_rows(c, columns)
    dq, dc = projected_gradients(few_q, few_c, places, others, gradient, wanted)
    if wanted.queries and few_q is not q:
        dq = q.new_zeros(q.shape).index_add_(0, rows, dq)
    if wanted.candidates and few_c is not c:
        dc = c.new_zeros(c.shape).index_add_(0, columns, dc)
    return dq, dc


def projected_gradients(
    q: Tensor, c: Tensor, rows: Tensor, columns: Tensor, gradient: Tensor, wanted: Wanted
) -> tuple[Tensor, Tensor]:
    """The inner product's gradients, less what lies along the rows themselves."""
    lengths = row_lengths(q, c)
    if lengths is None:
        (q, inverse_q), (c, inverse_c) = unit_rows(q), unit_rows(c)
        dq, dc = listed_gradients(Dot(), q, c, rows, columns, gradient, wanted)
        for on, g, x, inverse in ((wanted[0], dq, q, inverse_q), (wanted[1], dc, c, inverse_c)):
            if on:
                project_out_length(g, x, inverse)
        return dq, dc
    gradient = gradient / products_of(lengths, rows, columns)
    dq, dc = listed_gradients(Dot(), q, c, rows, columns, gradient, wanted)
    for x, g, length in ((q, dq, lengths[0]), (c, dc, lengths[1])):
        for part in chunks(len(g), max(1, GATHERED_ELEMENTS // x.shape[1])):
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
    wanted: Wanted,
) -> tuple[Float[Tensor, "n d"], Float[Tensor, "m d"]]:
    """Sums over the pairs, a chunk at a time, in a fixed order."""
    if type(similarity) is Dot:
        scores = len(q) * len(c)
        few = scores <= min(FEW, len(rows) * MUCH)
        # every block looks through the whole list
        if few or (scores <= BLOCKS * PRODUCT and is_dense(len(q), len(c), len(rows))):
            return product_gradients(q, c, rows, columns, gradient, wanted)
    dq, dc = accumulators(q, c, wanted)
    size = chunk_size(similarity, q.shape[1], len(rows))
    of_queries, of_candidates = Rows(q, size), Rows(c, size)
    scratch = q.new_empty(size, q.shape[1])
    for part in chunks(len(rows), size):
        left, left_run = of_queries.take(rows[part])
        right, right_run = of_candidates.take(columns[part])
        out, weights = scratch[: len(left)], gradient[part]
        to_q = to_c = out
        if type(similarity) is Dot:
            to_q, to_c, sign = right, left, 1
        elif is_builtin(similarity):
            to_q = to_c = separation(similarity, left, right, out)
            weights, sign, out = pull(similarity, to_q, weights), -1, of_queries.copies[: len(left)]
        else:
            to_q, to_c = differentiate(similarity, left, right, weights, wanted)
            weights, sign = torch.ones_like(weights), 1
        if dq is not None:
            accumulate(dq, rows[part], left_run, to_q, weights, out)
        if dc is not None:
            accumulate(dc, columns[part], right_run, to_c, sign * weights, out)
    none = q.new_empty(0)
    return none if dq is None else dq, none if dc is None else dc


def product_gradients(
    q: Float[Tensor, "n d"],
    c: Float[Tensor, "m d"],
    rows: Tensor,
    columns: Tensor,
    gradient: Float[Tensor, "t"],
    wanted: Wanted,
) -> tuple[Float[Tensor, "n d"], Float[Tensor, "m d"]]:
    """The same by products with a matrix of the pairs' gradients, some rows of it at a time."""
    dq, dc = accumulators(q, c, wanted)
    at_once = max(1, PRODUCT // len(c))
    for block in chunks(len(q), at_once):
        r, k, g = rows, columns, gradient
        if at_once < len(q):
            mine = ((rows >= block.start) & (rows < block.stop)).nonzero()[:, 0]
            r, k, g = (x.index_select(0, mine) for x in (rows, columns, gradient))
        weights = weight_matrix(block.stop - block.start, len(c), r - block.start, k, g)
        if dq is not None:
            torch.mm(weights, c, out=dq[block])
        if dc is not None:
            dc.addmm_(weights.T, q[block])
    none = q.new_empty(0)
    return none if dq is None else dq, none if dc is None else dc


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
    if type(similarity) is SquaredEuclidean:
        return 2 * gradient
    distance = torch.linalg.vector_norm(away, dim=1)
    weights = torch.where(distance > 0, gradient / distance, 0.0)
    turned = type(similarity) is Order and similarity.general == "queries"
    return -weights if turned else weights


def differentiate(
    similarity: Any,
    q: Float[Tensor, "t d"],
    c: Float[Tensor, "t d"],
    gradient: Float[Tensor, "t"],
    wanted: Wanted,
) -> tuple[Float[Tensor, "t d"], Float[Tensor, "t d"]]:
    """A callable's gradients of the rows, by autograd; a frozen side's rows themselves in place of them."""
    with torch.enable_grad():
        q = q.detach().clone().requires_grad_(wanted.queries)
        c = c.detach().clone().requires_grad_(wanted.candidates)
        leaves = [x for x in (q, c) if x.requires_grad]
        found = iter(torch.autograd.grad(scores_of(similarity, q, c).diagonal(), leaves, gradient))
    return next(found) if wanted.queries else q, next(found) if wanted.candidates else c


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
