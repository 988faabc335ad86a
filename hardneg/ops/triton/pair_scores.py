"""Fused ``pair_scores``: float32 sums over the embeddings themselves, one launch; and its deterministic backward."""

from __future__ import annotations

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from hardneg.ops.requests import EVERYTHING, Wanted
from hardneg.ops.triton.arguments import Side
from hardneg.ops.triton.forms import SIMILARITIES
from hardneg.ops.triton.launch import architecture, blocks_of, launch
from hardneg.ops.triton.lengths import inverse_lengths
from hardneg.ops.triton.operands import with_rows
from hardneg.ops.triton.pair_gradient import Listed, gathered_gradient
from hardneg.ops.triton.similarity_functions import term
from hardneg.ops.triton.tuning import configuration
from hardneg.similarities import Cosine

__all__ = ["pair_scores", "pair_scores_backward"]


@triton.jit
def block_of_rows(place, start, live, depth, WIDTH: tl.constexpr):
    """Some coordinates of the rows at ``place``, as float32; 0 where there is nothing."""
    inside = live[:, None] & (depth[None] < WIDTH - start)
    return tl.load(place + start + depth[None], mask=inside, other=0.0).to(tl.float32)


@triton.jit(do_not_specialize=["count"])
def pairs_kernel(
    queries, candidates, rows, columns, scores, count, similarity, WIDTH: tl.constexpr, tile
):
    """Scores of a block of pairs; 0 where an index is negative."""
    pairs = tl.program_id(0) * tile.ROWS + tl.arange(0, tile.ROWS)
    listed = pairs < count
    row = tl.load(rows + pairs, mask=listed, other=-1)
    column = tl.load(columns + pairs, mask=listed, other=-1)
    live = (row >= 0) & (column >= 0)
    left = queries.x + tl.where(live, row, 0)[:, None] * queries.stride
    right = candidates.x + tl.where(live, column, 0)[:, None] * candidates.stride
    depth = tl.arange(0, tile.DEPTH)
    total = tl.zeros((tile.ROWS, tile.DEPTH), tl.float32)
    if similarity.NORMALISED:
        # dividing by the largest entries first keeps the squares of huge and tiny rows in range
        of_left = tl.zeros((tile.ROWS,), tl.float32)
        of_right = tl.zeros((tile.ROWS,), tl.float32)
        for start in range(0, WIDTH, tile.DEPTH):
            a = block_of_rows(left, start, live, depth, WIDTH)
            b = block_of_rows(right, start, live, depth, WIDTH)
            of_left = tl.maximum(of_left, tl.max(tl.abs(a), 1))
            of_right = tl.maximum(of_right, tl.max(tl.abs(b), 1))
        of_left = tl.where(of_left > 0, of_left, 1.0)[:, None]
        of_right = tl.where(of_right > 0, of_right, 1.0)[:, None]
        squares_left = tl.zeros((tile.ROWS, tile.DEPTH), tl.float32)
        squares_right = tl.zeros((tile.ROWS, tile.DEPTH), tl.float32)
        for start in range(0, WIDTH, tile.DEPTH):
            a = block_of_rows(left, start, live, depth, WIDTH) / of_left
            b = block_of_rows(right, start, live, depth, WIDTH) / of_right
            total += term(similarity, a, b)
            squares_left += a * a
            squares_right += b * b
        lengths = tl.sqrt_rn(tl.sum(squares_left, 1)) * tl.sqrt_rn(tl.sum(squares_right, 1))
        score = similarity.length(tl.sum(total, 1)) / tl.where(lengths == 0, 1.0, lengths)
    else:
        for start in range(0, WIDTH, tile.DEPTH):
            a = block_of_rows(left, start, live, depth, WIDTH)
            b = block_of_rows(right, start, live, depth, WIDTH)
            total += term(similarity, a, b)
        score = similarity.length(tl.sum(total, 1))
    tl.store(scores + pairs, tl.where(live, score, 0.0), mask=listed)


def pair_scores(
    similarity: Any, queries: Tensor, candidates: Tensor, rows: Tensor, columns: Tensor
) -> Tensor:
    """See ``reference.pair_scores``; the lists are flat."""
    q, c = with_rows(queries), with_rows(candidates)
    count, width = len(rows), q.shape[1]
    scores = torch.empty(count, dtype=torch.float32, device=q.device)
    chosen = configuration("rows", "rows", architecture(q.device))
    sides, listed = (
        (Side(x, x.stride(0)) for x in (q, c)),
        (rows.contiguous(), columns.contiguous()),
    )
    given = *sides, *listed, scores, count, SIMILARITIES[similarity]
    launch(pairs_kernel, (blocks_of(chosen.rows, count),), chosen, *given, WIDTH=width)
    return scores


def pair_scores_backward(
    similarity: Any,
    queries: Tensor,
    candidates: Tensor,
    rows: Tensor,
    columns: Tensor,
    gradient: Tensor,
    wanted: Wanted = EVERYTHING,
) -> tuple[Tensor, Tensor]:
    """Gradients of queries and candidates, empty for a frozen side.

    The scores are computed anew, which one launch does.
    """
    q, c = with_rows(queries), with_rows(candidates)
    rows, columns = rows.contiguous(), columns.contiguous()  # a list may be one number, expanded
    scores = pair_scores(similarity, q, c, rows, columns)
    cosine = type(similarity) is Cosine
    of_q, of_c = (Side(x, x.stride(0), inverse_lengths(x) if cosine else None) for x in (q, c))
    # both lists in one sort; stable, so that pairs of one row keep their order
    ordered, order = torch.stack((rows, columns)).sort(dim=1, stable=True)
    dq, dc = (x.new_empty(0, dtype=torch.float32) for x in (queries, candidates))
    weights = gradient, scores
    if wanted.queries:
        listed = Listed(ordered[0], order[0], columns)
        dq = gathered_gradient(similarity, of_q, of_c, listed, *weights)
    if wanted.candidates:
        listed = Listed(ordered[1], order[1], rows)
        dc = gathered_gradient(similarity.swapped(), of_c, of_q, listed, *weights)
    return dq, dc
