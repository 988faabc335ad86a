"""Gradients of listed pairs' scores: every row gathers its own pairs, in the order of the list.

The pairs are sorted by the row that they name, so the pairs of a row stand together, and a program that owns
a row adds them up in registers and writes once. No two programs write one place: no atomics, the
same bits every time.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
import triton
import triton.language as tl
from torch import Tensor

from hardneg.ops.triton.arguments import Side
from hardneg.ops.triton.forms import SIMILARITIES
from hardneg.ops.triton.launch import architecture, blocks_of, launch
from hardneg.ops.triton.tuning import configuration

__all__ = ["Listed", "gathered_gradient"]


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


class Listed(NamedTuple):
    """Pairs sorted by the row that they name: these rows, the pairs in that order; the other side's rows by pair."""

    rows: Tensor
    order: Tensor
    others: Tensor


# the lists may start anywhere: those of both sides are halves of one sort
@triton.jit(do_not_specialize=["rows", "order", "others", "count"])
def segments_kernel(
    own,
    other,
    rows,
    order,
    others,
    count,
    gradient,
    scores,
    out,
    similarity,
    WIDTH: tl.constexpr,
    tile,
):
    """Some coordinates of one row's gradient: its pairs, ``tile.ROWS`` at a time."""
    row = tl.program_id(0).to(tl.int64)
    depth = tl.program_id(1) * tile.DEPTH + tl.arange(0, tile.DEPTH)
    within = depth < WIDTH
    x = tl.load(own.x + row * own.stride + depth, mask=within, other=0.0).to(tl.float32)
    total = tl.zeros((tile.DEPTH,), tl.float32)
    along = tl.zeros((tile.ROWS,), tl.float32)
    places = first_of(rows, count, row) + tl.arange(0, tile.ROWS)
    mine = tl.load(rows + places, mask=places < count, other=-1) == row
    while tl.max(mine.to(tl.int32), 0) > 0:
        pairs = tl.load(order + places, mask=mine, other=0)
        them = tl.load(others + pairs, mask=mine, other=-1)
        live = mine & (them >= 0)
        them = tl.where(live, them, 0)
        score = tl.load(scores + pairs, mask=live, other=0.0)
        weight = similarity.pull(tl.load(gradient + pairs, mask=live, other=0.0), score)
        place = other.x + them[:, None] * other.stride + depth[None]
        block = tl.load(place, mask=live[:, None] & within[None], other=0.0).to(tl.float32)
        if similarity.NORMALISED:
            along += weight * score
            weight = weight * tl.load(other.terms + them, mask=live, other=0.0)
        total += tl.sum(similarity.direction(x[None], block) * weight[:, None], 0)
        places += tile.ROWS
        mine = tl.load(rows + places, mask=places < count, other=-1) == row
    if similarity.NORMALISED:
        length = tl.load(own.terms + row)
        total = (total - x * length * tl.sum(along, 0)) * length
    tl.store(out + row * WIDTH + depth, total, mask=within)


def gathered_gradient(
    similarity: Any, own: Side, other: Side, listed: Listed, gradient: Tensor, scores: Tensor
) -> Tensor:
    """Gradient of the rows of one side, float32.

    Args:
        similarity: with this side as its queries.
        own, other: embeddings and, for cosine, 1 / length of this side and of the other.
        listed: the pairs, by this side's rows.
        gradient, scores: upstream gradient and score by pair.
    """
    rows, width = own.x.shape
    out = torch.empty(rows, width, dtype=torch.float32, device=own.x.device)
    chosen = configuration("segments", "rows", architecture(own.x.device))
    grid = (rows, blocks_of(chosen.depth, width))
    given = own, other, *listed, len(listed.rows), gradient, scores, out, SIMILARITIES[similarity]
    launch(segments_kernel, grid, chosen, *given, WIDTH=width)
    return out
