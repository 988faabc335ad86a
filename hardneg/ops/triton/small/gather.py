"""What chosen negatives pull, gathered in one launch: no matrix of derivatives, and no product with it.

A row is pulled by the negative that it chose, and by every anchor of the other side that chose it. The choices of all
of these fit a few reads of a program. Sums run in a fixed order, in float32 whatever the type of the embeddings.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import triton
import triton.language as tl
from torch import Tensor

from hardneg.ops.triton.launch import architecture, blocks_of, launch
from hardneg.ops.triton.small.arguments import (
    FIRST_OF_CANDIDATES,
    KEPT,
    OF_CANDIDATES,
    OF_QUERIES,
    PULL,
    Planes,
)
from hardneg.ops.triton.small.planes import number_of_loss, place_of
from hardneg.ops.triton.tuning import configuration

__all__ = ["Gathered", "gather"]

BEHIND = tl.constexpr(2**31 - 1)


class Gathered(NamedTuple):
    """One side inside the kernel.

    Attributes:
        x, stride: rows as they are multiplied.
        factors: 1 / length of these; None where that is 1.
        pulls: where its sums go; None for a frozen side.
    """

    x: Tensor
    stride: int
    factors: Tensor | None
    pulls: Tensor | None


@triton.jit
def of_own(total, other, planes, first, weight, row, pairs, depth, width):
    """The negative that a row chose, added to what pulls it."""
    anchor = row < pairs
    pull = tl.load(place_of(planes, first + PULL, row), mask=anchor, other=0.0)
    kept = tl.load(place_of(planes, first + KEPT, row), mask=anchor, other=0.0)
    there = pull > 0.0
    index = tl.where(there, kept.to(tl.int32, bitcast=True), 0)
    pull *= weight
    if other.factors is not None:
        pull *= tl.load(other.factors + index)
    place = other.x + index.to(tl.int64) * other.stride + depth
    mask = depth < tl.where(there, width, 0)
    return total + pull * tl.load(place, mask=mask, other=0.0).to(tl.float32)


@triton.jit
def of_others(total, other, planes, first, weight, row, pairs, depth, width, tile):
    """The anchors of the other side that chose a row, a few neighbours at a time."""
    start = tl.zeros((), tl.int32)
    while start < pairs:
        anchors = start + tl.arange(0, tile.COLUMNS)
        inside = anchors < pairs
        pull = tl.load(place_of(planes, first + PULL, anchors), mask=inside, other=0.0)
        kept = tl.load(place_of(planes, first + KEPT, anchors), mask=inside, other=0.0)
        chose = (pull > 0.0) & (kept.to(tl.int32, bitcast=True) == row)
        next_one = tl.min(tl.where(chose, anchors, BEHIND), 0)
        while next_one < BEHIND:
            few = next_one + tl.arange(0, tile.ROWS)
            near = few < pairs
            theirs = tl.load(place_of(planes, first + KEPT, few), mask=near, other=0.0)
            weights = tl.load(place_of(planes, first + PULL, few), mask=near, other=0.0) * weight
            some = near & (theirs.to(tl.int32, bitcast=True) == row) & (few < start + tile.COLUMNS)
            if other.factors is not None:
                weights *= tl.load(other.factors + few, mask=some, other=0.0)
            weights = tl.where(some, weights, 0.0)
            place = other.x + few.to(tl.int64)[:, None] * other.stride + depth[None]
            mask = (weights != 0.0)[:, None] & (depth < width)[None]
            rows = tl.load(place, mask=mask, other=0.0).to(tl.float32)
            total += tl.sum(weights[:, None] * rows, 0)
            rest = chose & (anchors >= next_one + tile.ROWS)
            next_one = tl.min(tl.where(rest, anchors, BEHIND), 0)
        start += tile.COLUMNS
    return total


@triton.jit
def gather_row(
    side, other, planes, row, pairs, OF_A_QUERY: tl.constexpr, ONE_SET: tl.constexpr, width, tile
):
    """All that pulls a row, some coordinates of it."""
    depth = tl.program_id(1) * tile.DEPTH + tl.arange(0, tile.DEPTH)
    total = tl.zeros((tile.DEPTH,), tl.float32)
    if planes.QUERIES:
        weight, first = number_of_loss(planes, OF_QUERIES), 0
        if OF_A_QUERY:
            total = of_own(total, other, planes, first, weight, row, pairs, depth, width)
        if ONE_SET or not OF_A_QUERY:
            total = of_others(total, other, planes, first, weight, row, pairs, depth, width, tile)
    if planes.CANDIDATES:
        weight, first = number_of_loss(planes, OF_CANDIDATES), FIRST_OF_CANDIDATES
        if ONE_SET or not OF_A_QUERY:
            total = of_own(total, other, planes, first, weight, row, pairs, depth, width)
        if OF_A_QUERY:
            total = of_others(total, other, planes, first, weight, row, pairs, depth, width, tile)
    if side.factors is not None:
        total *= tl.load(side.factors + row)
    target = side.pulls + row.to(tl.int64) * width + depth
    tl.store(target, total, mask=depth < width)


@triton.jit(do_not_specialize=["pairs", "first_candidate"])
def gather_kernel(
    queries,
    candidates,
    planes,
    pairs,
    first_candidate,
    ONE_SET: tl.constexpr,
    WIDTH: tl.constexpr,
    tile,
):
    """A program a row: the queries, then the candidates; none of a frozen side."""
    row = tl.program_id(0)
    if queries.pulls is not None and row < first_candidate:
        gather_row(queries, candidates, planes, row, pairs, True, ONE_SET, WIDTH, tile)
    if candidates.pulls is not None and row >= first_candidate:
        row -= first_candidate
        gather_row(candidates, queries, planes, row, pairs, False, ONE_SET, WIDTH, tile)


def gather(sides: tuple[Gathered, Gathered], planes: Planes, one_set: bool) -> None:
    """Write the pulls of the sides that want one; of one set all with the queries."""
    n, m = (0 if side.pulls is None else side.x.shape[0] for side in sides)
    width = sides[0].x.shape[1]
    chosen = configuration("gather", "rows", architecture(planes.x.device))
    grid = (n + m, blocks_of(chosen.depth, width))
    given: tuple[Any, ...] = *sides, planes, sides[0].x.shape[0], n
    launch(gather_kernel, grid, chosen, *given, ONE_SET=one_set, WIDTH=width)
