"""Gradients of listed pairs' scores: every row gathers its own pairs, in the order of the list.

The pairs are sorted by the row that they name, so the pairs of a row stand together, and a program that owns
a row adds them up in registers and writes once. No two programs write one place: no atomics, the
same bits every time.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from hardneg.ops.triton.launch import architecture, launch
from hardneg.ops.triton.tuning import configuration

__all__ = ["gathered_gradient"]


@triton.jit
def first_of(ordered, count, row):
    """The first place in a rising list whose value is at least ``row``."""
    low = tl.program_id(0) * 0
    high = low + count
    while low < high:
        middle = (low + high) // 2
        below = tl.load(ordered + middle) < row
        low = tl.where(below, middle + 1, low)
        high = tl.where(below, high, middle)
    return low


@triton.jit
def pulls(gradient, score, SIMILARITY: tl.constexpr):
    """The weight of what pulls a row along, from the gradient and the score of its pair."""
    if SIMILARITY == "dot" or SIMILARITY == "cosine":
        weight = gradient
    elif SIMILARITY == "squared_euclidean":
        weight = 2.0 * gradient
    else:
        weight = tl.where(score < 0, gradient / tl.where(score < 0, -score, 1.0), 0.0)
    return weight


@triton.jit
def segments_kernel(
    x,
    stride,
    inverse,
    others,
    other_stride,
    other_inverse,
    ordered,
    order,
    other_index,
    gradient,
    scores,
    out,
    count,
    SIMILARITY: tl.constexpr,
    WIDTH: tl.constexpr,
    BLOCK_ROWS: tl.constexpr,
    BLOCK_DEPTH: tl.constexpr,
):
    """Some coordinates of one row's gradient: its pairs, ``BLOCK_ROWS`` at a time."""
    row = tl.program_id(0).to(tl.int64)
    depth = tl.program_id(1) * BLOCK_DEPTH + tl.arange(0, BLOCK_DEPTH)
    within = depth < WIDTH
    own = tl.load(x + row * stride + depth, mask=within, other=0.0).to(tl.float32)
    total = tl.zeros((BLOCK_DEPTH,), tl.float32)
    along = tl.zeros((BLOCK_ROWS,), tl.float32)
    places = first_of(ordered, count, row) + tl.arange(0, BLOCK_ROWS)
    mine = tl.load(ordered + places, mask=places < count, other=-1) == row
    while tl.max(mine.to(tl.int32), 0) > 0:
        pairs = tl.load(order + places, mask=mine, other=0)
        other = tl.load(other_index + pairs, mask=mine, other=-1)
        live = mine & (other >= 0)
        other = tl.where(live, other, 0)
        score = tl.load(scores + pairs, mask=live, other=0.0)
        weight = pulls(tl.load(gradient + pairs, mask=live, other=0.0), score, SIMILARITY)
        place = others + other[:, None] * other_stride + depth[None]
        block = tl.load(place, mask=live[:, None] & within[None], other=0.0).to(tl.float32)
        if SIMILARITY == "cosine":
            along += weight * score
            weight = weight * tl.load(other_inverse + other, mask=live, other=0.0)
        elif SIMILARITY == "order":
            block = tl.maximum(block - own[None], 0.0)
        elif SIMILARITY == "order_of_general_queries":
            block = tl.minimum(block - own[None], 0.0)
        elif SIMILARITY != "dot":
            block = block - own[None]
        total += tl.sum(block * weight[:, None], 0)
        places += BLOCK_ROWS
        mine = tl.load(ordered + places, mask=places < count, other=-1) == row
    if SIMILARITY == "cosine":
        length = tl.load(inverse + row)
        total = (total - own * length * tl.sum(along, 0)) * length
    tl.store(out + row * WIDTH + depth, total, mask=within)


def gathered_gradient(
    code: str,
    side: tuple[Tensor, Tensor | None],
    other: tuple[Tensor, Tensor | None],
    listed: tuple[Tensor, Tensor, Tensor],
    weights: tuple[Tensor, Tensor],
) -> Tensor:
    """Gradient of the rows of one side, float32.

    Args:
        code: the similarity, with this side as its queries.
        side, other: embeddings and, for cosine, 1 / length of this side and of the other.
        listed: this side's rows of the pairs, sorted; the pairs in that order; the other side's rows by pair.
        weights: upstream gradient and score by pair.
    """
    x, inverse = side
    rows, width = x.shape
    out = torch.empty(rows, width, dtype=torch.float32, device=x.device)
    chosen = configuration("segments", "rows", architecture(x.device))
    arguments = {
        "x": x,
        "stride": x.stride(0),
        "inverse": inverse,
        "others": other[0],
        "other_stride": other[0].stride(0),
        "other_inverse": other[1],
        "ordered": listed[0],
        "order": listed[1],
        "other_index": listed[2],
        "gradient": weights[0],
        "scores": weights[1],
        "out": out,
        "count": len(listed[0]),
        "SIMILARITY": code,
        "WIDTH": width,
    }
    launch(segments_kernel, (rows, triton.cdiv(width, chosen.depth)), arguments, chosen)
    return out
