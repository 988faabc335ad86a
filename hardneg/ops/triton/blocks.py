"""Which tile a program takes, and a tile in four parts."""

from __future__ import annotations

import triton
import triton.language as tl

__all__ = ["below_diagonal", "block_of", "quarters", "whole"]

GROUP = tl.constexpr(8)


@triton.jit
def block_of(program, row_blocks, column_blocks):
    """The tile of a program: groups of eight row blocks, so that programs running together share embeddings."""
    group = program // (GROUP * column_blocks)
    height = tl.minimum(row_blocks - group * GROUP, GROUP)
    place = program - group * GROUP * column_blocks
    return group * GROUP + place % height, place // height


@triton.jit
def below_diagonal(extent, row_block, column_block, tile):
    """Whether all of a tile's columns have smaller numbers than its rows."""
    stop = tl.minimum(extent.column_start + (column_block + 1) * tile.COLUMNS, extent.column_stop)
    return stop <= extent.row_start + row_block * tile.ROWS


@triton.jit
def halves(product, ROWS: tl.constexpr, COLUMNS: tl.constexpr):
    """The left and the right half of a tile's columns; nothing moves between threads."""
    return tl.split(tl.permute(tl.reshape(product, (ROWS, 2, COLUMNS // 2)), (0, 2, 1)))


@triton.jit
def quarters(product, ROWS: tl.constexpr, COLUMNS: tl.constexpr):
    """The four quarters of a tile's columns, from left to right."""
    left, right = halves(product, ROWS, COLUMNS)
    first, second = halves(left, ROWS, COLUMNS // 2)
    third, fourth = halves(right, ROWS, COLUMNS // 2)
    return first, second, third, fourth


@triton.jit
def side_by_side(left, right):
    """Two halves of a tile's columns as one; nothing moves between threads."""
    ROWS: tl.constexpr = left.shape[0]
    COLUMNS: tl.constexpr = left.shape[1]
    return tl.reshape(tl.permute(tl.join(left, right), (0, 2, 1)), (ROWS, 2 * COLUMNS))


@triton.jit
def whole(left, right):
    """A tile of its four quarters, two on either side."""
    return side_by_side(side_by_side(left[0], left[1]), side_by_side(right[0], right[1]))
