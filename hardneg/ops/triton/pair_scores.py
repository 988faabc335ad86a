"""Fused ``pair_scores``: float32 sums over the embeddings themselves, one launch; and its deterministic backward."""

from __future__ import annotations

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from hardneg.ops.requests import EVERYTHING, Wanted
from hardneg.ops.triton.launch import architecture, launch
from hardneg.ops.triton.lengths import inverse_lengths
from hardneg.ops.triton.operands import with_rows
from hardneg.ops.triton.pair_gradient import gathered_gradient
from hardneg.ops.triton.tuning import configuration

__all__ = ["pair_scores", "pair_scores_backward"]


@triton.jit
def excess(queries, candidates, SIMILARITY: tl.constexpr):
    """What a distance is the length of: the difference, or the violation of an order."""
    difference = candidates - queries
    if SIMILARITY == "order":
        difference = tl.maximum(difference, 0.0)
    elif SIMILARITY == "order_of_general_queries":
        difference = tl.maximum(-difference, 0.0)
    return difference


@triton.jit
def block_of_rows(place, start, live, depth, WIDTH: tl.constexpr):
    """Some coordinates of the rows at ``place``, as float32; 0 where there is nothing."""
    inside = live[:, None] & (depth[None] < WIDTH - start)
    return tl.load(place + start + depth[None], mask=inside, other=0.0).to(tl.float32)


@triton.jit
def pairs_kernel(
    queries,
    query_stride,
    candidates,
    candidate_stride,
    rows,
    columns,
    scores,
    count,
    SIMILARITY: tl.constexpr,
    WIDTH: tl.constexpr,
    BLOCK_ROWS: tl.constexpr,
    BLOCK_DEPTH: tl.constexpr,
):
    """Scores of a block of pairs; 0 where an index is negative."""
    pairs = tl.program_id(0) * BLOCK_ROWS + tl.arange(0, BLOCK_ROWS)
    listed = pairs < count
    row = tl.load(rows + pairs, mask=listed, other=-1)
    column = tl.load(columns + pairs, mask=listed, other=-1)
    live = (row >= 0) & (column >= 0)
    left = queries + tl.where(live, row, 0)[:, None] * query_stride
    right = candidates + tl.where(live, column, 0)[:, None] * candidate_stride
    depth = tl.arange(0, BLOCK_DEPTH)
    total = tl.zeros((BLOCK_ROWS, BLOCK_DEPTH), tl.float32)
    if SIMILARITY == "cosine":
        # dividing by the largest entries first keeps the squares of huge and tiny rows in range
        of_left = tl.zeros((BLOCK_ROWS,), tl.float32)
        of_right = tl.zeros((BLOCK_ROWS,), tl.float32)
        for start in range(0, WIDTH, BLOCK_DEPTH):
            a = block_of_rows(left, start, live, depth, WIDTH)
            b = block_of_rows(right, start, live, depth, WIDTH)
            of_left = tl.maximum(of_left, tl.max(tl.abs(a), 1))
            of_right = tl.maximum(of_right, tl.max(tl.abs(b), 1))
        of_left = tl.where(of_left > 0, of_left, 1.0)[:, None]
        of_right = tl.where(of_right > 0, of_right, 1.0)[:, None]
        squares_left = tl.zeros((BLOCK_ROWS, BLOCK_DEPTH), tl.float32)
        squares_right = tl.zeros((BLOCK_ROWS, BLOCK_DEPTH), tl.float32)
        for start in range(0, WIDTH, BLOCK_DEPTH):
            a = block_of_rows(left, start, live, depth, WIDTH) / of_left
            b = block_of_rows(right, start, live, depth, WIDTH) / of_right
            total += a * b
            squares_left += a * a
            squares_right += b * b
        lengths = tl.sqrt_rn(tl.sum(squares_left, 1)) * tl.sqrt_rn(tl.sum(squares_right, 1))
        score = tl.sum(total, 1) / tl.where(lengths == 0, 1.0, lengths)
    else:
        for start in range(0, WIDTH, BLOCK_DEPTH):
            a = block_of_rows(left, start, live, depth, WIDTH)
            b = block_of_rows(right, start, live, depth, WIDTH)
            if SIMILARITY == "dot":
                total += a * b
            else:
                away = excess(a, b, SIMILARITY)
                total += away * away
        score = tl.sum(total, 1)
        if SIMILARITY == "squared_euclidean":
            score = -score
        elif SIMILARITY != "dot":
            score = -tl.sqrt_rn(score)
    tl.store(scores + pairs, tl.where(live, score, 0.0), mask=listed)


def pair_scores(
    similarity: Any, queries: Tensor, candidates: Tensor, rows: Tensor, columns: Tensor
) -> Tensor:
    """See ``reference.pair_scores``; the lists are flat."""
    q, c = with_rows(queries), with_rows(candidates)
    count, width = len(rows), q.shape[1]
    scores = torch.empty(count, dtype=torch.float32, device=q.device)
    chosen = configuration("rows", "rows", architecture(q.device))
    arguments = {
        "queries": q,
        "query_stride": q.stride(0),
        "candidates": c,
        "candidate_stride": c.stride(0),
        "rows": rows.contiguous(),
        "columns": columns.contiguous(),
        "scores": scores,
        "count": count,
        "SIMILARITY": similarity.code,
        "WIDTH": width,
    }
    launch(pairs_kernel, (triton.cdiv(count, chosen.rows),), arguments, chosen)
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
    inverse: tuple[Tensor | None, Tensor | None] = (None, None)
    if similarity.code == "cosine":
        inverse = inverse_lengths(q), inverse_lengths(c)
    # both lists in one sort; stable, so that pairs of one row keep their order
    ordered, order = torch.stack((rows, columns)).sort(dim=1, stable=True)
    of_queries, of_candidates = (q, inverse[0]), (c, inverse[1])
    weights = gradient, scores
    dq, dc = (x.new_empty(0, dtype=torch.float32) for x in (queries, candidates))
    if wanted.queries:
        listed = ordered[0], order[0], columns
        code = similarity.code
        dq = gathered_gradient(code, of_queries, of_candidates, listed, weights)
    if wanted.candidates:
        listed = ordered[1], order[1], rows
        code = similarity.swapped().code
        dc = gathered_gradient(code, of_candidates, of_queries, listed, weights)
    return dq, dc
