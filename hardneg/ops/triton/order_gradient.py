"""Gradients of order violations from a panel of weights: no product of matrices, so a kernel of their own.

A program owns a block of anchors and some of their coordinates and walks over the other side of the panel in order, so
nothing is added by two programs, and results are the same bit for bit.
"""

from __future__ import annotations

import triton
import triton.language as tl
from torch import Tensor

from hardneg.ops.triton.arguments import Matrix, Side
from hardneg.ops.triton.launch import architecture, blocks_of, launch
from hardneg.ops.triton.tuning import configuration

__all__ = ["add_violations"]


@triton.jit(do_not_specialize=["own_count", "other_count"])
def violations_kernel(
    weights,
    own,
    others,
    gradient,
    own_count,
    other_count,
    width,
    POSITIVE: tl.constexpr,
    EARLIER: tl.constexpr,
    AT_ONCE: tl.constexpr,
    tile,
):
    """``gradient[i] += sign * sum_j weights[i, j] * max(0, sign * (others[j] - own[i]))``.

    The sign is 1 if ``POSITIVE``, else -1; embeddings are finite.
    """
    row = tl.program_id(0) * tile.ROWS + tl.arange(0, tile.ROWS)
    depth = tl.program_id(1) * tile.DEPTH + tl.arange(0, tile.DEPTH)
    inside = (row < own_count)[:, None] & (depth < width)[None]
    place = row.to(tl.int64)[:, None]
    mine = tl.load(own.x + place * own.stride + depth[None], mask=inside, other=0.0)
    mine = mine.to(tl.float32)
    total = tl.zeros((tile.ROWS, tile.DEPTH), tl.float32)
    first = tl.zeros((), tl.int64)
    while first < other_count:
        for step in tl.static_range(AT_ONCE):
            j = first + step
            there = tl.zeros_like(depth) + j < other_count
            known = (depth < width) & there
            theirs = tl.load(others.x + j * others.stride + depth, mask=known, other=0.0)
            way = theirs.to(tl.float32)[None] - mine
            # twice the excess, to the bit: a GPU adds a magnitude twice as fast as it takes a maximum
            doubled = way + tl.abs(way) if POSITIVE else way - tl.abs(way)
            share = weights.x + row.to(tl.int64) * weights.row_stride + j * weights.column_stride
            real = (row < own_count) & (tl.zeros_like(row) + j < other_count)
            share = tl.load(share, mask=real, other=0.0)
            total += share[:, None] * doubled
        first += AT_ONCE
    total *= 0.5
    target = gradient + place * width + depth[None]
    if EARLIER:
        total += tl.load(target, mask=inside, other=0.0)
    tl.store(target, total, mask=inside)


def add_violations(
    gradient: Tensor, weights: Tensor, own: Side, others: Side, sign: float, earlier: bool
) -> None:
    """Add a panel's share to the gradient of its ``own`` side (float32), or write it where it is the first.

    ``weights`` [own, others] may be a transposed view; ``sign`` is 1 where the others' excess over the own is
    a violation, -1 where the own's excess over the others is.
    """
    chosen = configuration("violations", "rows", architecture(gradient.device))
    (own_count, width), other_count = own.x.shape, others.x.shape[0]
    grid = (blocks_of(chosen.rows, own_count), blocks_of(chosen.depth, width))
    given = Matrix.of(weights), own, others, gradient, own_count, other_count, width
    told = {"POSITIVE": sign > 0, "EARLIER": earlier, "AT_ONCE": 4}
    launch(violations_kernel, grid, chosen, *given, **told)
