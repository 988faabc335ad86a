"""One launch from the terms to the loss, and to the numbers that its derivatives share."""

from __future__ import annotations

import triton
import triton.language as tl
from torch import Tensor

from hardneg.ops.triton.launch import INTERPRETED, launch
from hardneg.ops.triton.small.arguments import (
    BY_SCALE,
    COUNT,
    FACTOR,
    FIRST_OF_CANDIDATES,
    FIRST_OF_LOSS,
    LARGEST,
    OF_CANDIDATES,
    OF_QUERIES,
    SHARE,
    VALUE,
    Equation,
    Planes,
)
from hardneg.ops.triton.small.planes import place_of
from hardneg.ops.triton.small.scores import logits_of
from hardneg.ops.triton.tuning import Configuration

__all__ = ["total"]

BLOCK = Configuration(32 if INTERPRETED else 1024, 1, 1, 4, 1)


@triton.jit
def of_plane(planes, number, count, tile):
    """One plane as a vector: its anchors dealt out among the threads and added up in a fixed order."""
    total = tl.zeros((tile.ROWS,), tl.float32)
    start = tl.zeros((), tl.int32)
    while start < count:
        anchors = start + tl.arange(0, tile.ROWS)
        total += tl.load(place_of(planes, number, anchors), mask=anchors < count, other=0.0)
        start += tile.ROWS
    return tl.sum(total, 0)


@triton.jit
def largest_of(planes, number, count, tile):
    """The largest number of one plane."""
    largest = tl.zeros((tile.ROWS,), tl.float32)
    start = tl.zeros((), tl.int32)
    while start < count:
        anchors = start + tl.arange(0, tile.ROWS)
        place = place_of(planes, number, anchors)
        largest = tl.maximum(largest, tl.load(place, mask=anchors < count, other=0.0))
        start += tile.ROWS
    return tl.max(largest, 0)


@triton.jit
def oddness(shrinks, count, tile):
    """0, or NaN where one of the numbers is."""
    total = tl.zeros((tile.ROWS,), tl.float32)
    start = tl.zeros((), tl.int32)
    while start < count:
        rows = start + tl.arange(0, tile.ROWS)
        shrink = tl.load(shrinks + rows, mask=rows < count, other=0.0)
        total += shrink - shrink
        start += tile.ROWS
    return tl.sum(total, 0)


@triton.jit
def of_side(planes, equation, share, first, count, MEAN: tl.constexpr, tile):
    """The loss of one direction, the weight of its terms, its largest slope, and the derivative by the scale."""
    weight = share
    if MEAN:
        weight = share / tl.maximum(of_plane(planes, first + COUNT, count, tile), 1.0)
    by_scale = 0.0
    if equation.LEARNED:
        by_scale = weight * of_plane(planes, first + SHARE, count, tile)
    value = weight * of_plane(planes, first + VALUE, count, tile)
    return value, weight, weight * largest_of(planes, first + LARGEST, count, tile), by_scale


@triton.jit(do_not_specialize=["row_count", "column_count"])
def total_kernel(
    planes,
    equation,
    row_shrinks,
    column_shrinks,
    row_count,
    column_count,
    share,
    value,
    MEAN: tl.constexpr,
    tile,
):
    """One program: the loss, and its numbers."""
    odd = oddness(row_shrinks, row_count, tile) + oddness(column_shrinks, column_count, tile)
    loss, largest, by_scale = odd, 0.0, odd
    of_queries, of_candidates = 0.0, 0.0
    if planes.QUERIES:
        part, of_queries, slope, of_scale = of_side(
            planes, equation, share, 0, row_count, MEAN, tile
        )
        loss += part
        by_scale += of_scale
        largest = tl.maximum(largest, slope)
    if planes.CANDIDATES:
        part, of_candidates, slope, of_scale = of_side(
            planes, equation, share, FIRST_OF_CANDIDATES, row_count, MEAN, tile
        )
        loss += part
        by_scale += of_scale
        largest = tl.maximum(largest, slope)
    largest = tl.where(largest > 0.0, largest, 1.0)
    tl.store(value, loss)
    tl.store(place_of(planes, FIRST_OF_LOSS, OF_QUERIES), of_queries / largest)
    tl.store(place_of(planes, FIRST_OF_LOSS, OF_CANDIDATES), of_candidates / largest)
    tl.store(
        place_of(planes, FIRST_OF_LOSS, FACTOR), logits_of(equation, largest) / planes.gain + odd
    )
    tl.store(place_of(planes, FIRST_OF_LOSS, BY_SCALE), by_scale)


def total(
    planes: Planes,
    equation: Equation,
    shrinks: tuple[Tensor, Tensor],
    lengths: tuple[int, int],
    share: float,
    value: Tensor,
    mean: bool,
) -> None:
    """Write the loss and what its derivatives share."""
    given = planes, equation, *shrinks, *lengths, share, value
    launch(total_kernel, (1,), BLOCK, *given, MEAN=mean)
