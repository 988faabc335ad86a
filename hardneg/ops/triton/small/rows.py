"""Rows of both sides in one launch: their lengths, and copies whose products stay in range.

float32 rows are divided by their lengths. 16-bit rows are multiplied by a power of two, which loses nothing: their
largest entries then lie in [1, 2), so that no product overflows or vanishes, and their lengths divide the products.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import triton
import triton.language as tl
from torch import Tensor

from hardneg.ops.triton.launch import architecture, blocks_of, launch
from hardneg.ops.triton.operands import padded, with_rows
from hardneg.ops.triton.rounding import rounded
from hardneg.ops.triton.small.arguments import RowsOfSide
from hardneg.ops.triton.tuning import configuration

__all__ = ["Rows", "rows_of_both"]

LARGEST_FLOAT = tl.constexpr(3.4028234663852886e38)


class Rows(NamedTuple):
    """One side ready to be multiplied.

    Attributes:
        x: the embeddings, whose coordinates stand next to each other.
        copy: as they are multiplied; the embeddings themselves for products.
        factors: 1 / length of the copies; None where that is 1, or where lengths do not matter.
        shrinks: copy / embedding, or NaN where a row is not finite.
    """

    x: Tensor
    copy: Tensor
    factors: Tensor | None
    shrinks: Tensor


@triton.jit
def power_below(x):
    """The power of two that brings x > 0 into [1, 2), as far as floats reach."""
    exponent = (x.to(tl.int32, bitcast=True) >> 23) - 127
    exponent = tl.minimum(tl.maximum(exponent, -126), 126)
    return ((127 - exponent) << 23).to(tl.float32, bitcast=True)


@triton.jit
def measure(side, block, count, WIDTH: tl.constexpr, tile):
    """A block of rows of one side."""
    rows = block * tile.ROWS + tl.arange(0, tile.ROWS)
    here = rows < count
    depth = tl.arange(0, tile.DEPTH)
    place = side.x + rows.to(tl.int64)[:, None] * side.stride
    largest = tl.zeros((tile.ROWS,), tl.float32)
    odd = tl.zeros((tile.ROWS, tile.DEPTH), tl.float32)
    for start in range(0, WIDTH, tile.DEPTH):
        inside = here[:, None] & (depth[None] < WIDTH - start)
        x = tl.load(place + start + depth[None], mask=inside, other=0.0).to(tl.float32)
        odd += x - x  # 0, or NaN, which a maximum passes over
        largest = tl.maximum(largest, tl.max(tl.abs(x), 1))
    shrink = tl.full((tile.ROWS,), 1.0, tl.float32)
    if side.copy is not None:
        some = largest > 0.0
        divisor = tl.where(some, largest, 1.0)
        shrink = power_below(divisor)
        total = tl.zeros((tile.ROWS, tile.DEPTH), tl.float32)
        for start in range(0, WIDTH, tile.DEPTH):
            inside = here[:, None] & (depth[None] < WIDTH - start)
            x = tl.load(place + start + depth[None], mask=inside, other=0.0).to(tl.float32)
            x = x * shrink[:, None]
            total += x * x
        length = tl.where(some, tl.sqrt_rn(tl.sum(total, 1)), 1.0)
        target = side.copy + rows.to(tl.int64)[:, None] * WIDTH
        for start in range(0, WIDTH, tile.DEPTH):
            inside = here[:, None] & (depth[None] < WIDTH - start)
            x = tl.load(place + start + depth[None], mask=inside, other=0.0).to(tl.float32)
            x = x * shrink[:, None]
            if side.factors is None:
                x = x / length[:, None]
            tl.store(
                target + start + depth[None], rounded(x, side.copy.dtype.element_ty), mask=inside
            )
        if side.factors is None:
            shrink = shrink / length
            # a row whose inverse length is beyond the largest float passes no gradient, as a zero row
            shrink = tl.where(some & (shrink <= LARGEST_FLOAT), shrink, 0.0)
        else:
            tl.store(side.factors + rows, tl.where(some, 1.0 / length, 0.0), mask=here)
    tl.store(side.shrinks + rows, shrink + tl.sum(odd, 1), mask=here)


@triton.jit(do_not_specialize=["row_blocks", "row_count", "column_count"])
def rows_kernel(
    queries, candidates, row_blocks, row_count, column_count, WIDTH: tl.constexpr, tile
):
    """Blocks of the queries, then blocks of the candidates."""
    block = tl.program_id(0)
    if block < row_blocks:
        measure(queries, block, row_count, WIDTH, tile)
    else:
        measure(candidates, block - row_blocks, column_count, WIDTH, tile)


def rows_of_both(queries: Tensor, candidates: Tensor, normalised: bool) -> tuple[Rows, Rows]:
    """Both sides; those of one set are measured once."""
    one = candidates is queries
    first = prepared(queries, normalised)
    second = first if one else prepared(candidates, normalised)
    chosen = configuration("rows", "rows", architecture(queries.device))
    blocks = blocks_of(chosen.rows, queries.shape[0])
    more = 0 if one else blocks_of(chosen.rows, candidates.shape[0])
    given = argument(first), argument(second), blocks, queries.shape[0], candidates.shape[0]
    launch(rows_kernel, (blocks + more,), chosen, *given, WIDTH=queries.shape[1])
    return first, second


def prepared(x: Tensor, normalised: bool) -> Rows:
    """A side with room for what is made of it."""
    x = with_rows(x)
    numbers = x.new_empty(2, padded(x.shape[0]), dtype=torch.float32)
    if not normalised:
        return Rows(x, x, None, numbers[0])
    factors = None if x.dtype == torch.float32 else numbers[1]
    return Rows(x, x.new_empty(x.shape), factors, numbers[0])


def argument(rows: Rows) -> RowsOfSide:
    """What the kernel takes."""
    copy = None if rows.copy is rows.x else rows.copy
    return RowsOfSide(rows.x, rows.x.stride(0), copy, rows.factors, rows.shrinks)
