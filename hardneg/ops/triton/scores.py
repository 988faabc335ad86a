"""One tile of scores in registers: a product on the tensor cores, an order violation, or scores already there."""

from __future__ import annotations

import triton
import triton.language as tl

from hardneg.ops.triton.arguments import TOGETHER

__all__ = ["finished", "raw_tile", "score_tile"]

BLOCK = tl.constexpr(TOGETHER)


@triton.jit
def product_tile(panel, rows, columns, tile):
    """Inner products of the rows with the columns, accumulated in float32."""
    queries, candidates = panel.queries, panel.candidates
    depth = tl.arange(0, tile.DEPTH)
    left = queries.x + rows.to(tl.int64)[:, None] * queries.stride + depth[None]
    right = candidates.x + columns.to(tl.int64)[None] * candidates.stride + depth[:, None]
    total = tl.zeros((tile.ROWS, tile.COLUMNS), tl.float32)
    for start in range(0, panel.WIDTH, tile.DEPTH):
        if panel.WIDTH % tile.DEPTH == 0:
            a, b = tl.load(left), tl.load(right)
        else:
            a = tl.load(left, mask=depth[None] < panel.WIDTH - start, other=0.0)
            b = tl.load(right, mask=depth[:, None] < panel.WIDTH - start, other=0.0)
        if panel.UPCAST:
            a, b = a.to(tl.float32), b.to(tl.float32)
        total = tl.dot(a, b, total, input_precision=panel.PRECISION)
        left += tile.DEPTH
        right += tile.DEPTH
    return total


@triton.jit
def violation_tile(panel, rows, columns, tile):
    """Twice the squared order violations, two coordinates at a time: one load of 8 bytes, without a mask."""
    pair = tl.arange(0, 2)[None]
    left = panel.queries.x + rows[:, None] * BLOCK + pair
    right = panel.candidates.x + columns[:, None] * BLOCK + pair
    total = tl.zeros((tile.ROWS, tile.COLUMNS), tl.float32)
    for _ in range(0, panel.WIDTH, BLOCK):
        for first in tl.static_range(0, BLOCK, 2):
            a, next_a = tl.split(tl.load(left + first))
            b, next_b = tl.split(tl.load(right + first))
            total += panel.similarity.doubled_term(a[:, None], b[None])
            total += panel.similarity.doubled_term(next_a[:, None], next_b[None])
        left += panel.queries.stride
        right += panel.candidates.stride
    return total


@triton.jit
def raw_tile(panel, extent, rows, columns, tile):
    """Inner products of ``rows`` with ``columns``, or twice the squared violations: ``finished`` makes them scores."""
    if (
        panel.SOURCE == "order"
    ):  # whose copies go on behind the last row: neighbours are read together
        product = violation_tile(panel, rows, columns, tile)
    else:
        rows = tl.minimum(rows, extent.row_stop - 1)
        columns = tl.minimum(columns, extent.column_stop - 1)
        if panel.SOURCE == "given":
            # a panel has fewer than 2**31 entries, and 32-bit places take half the registers
            place = (rows - extent.row_start)[:, None] * panel.stride
            product = tl.load(panel.scores + (place + (columns - extent.column_start)[None]))
        else:
            tl.static_assert(panel.SOURCE == "product")
            product = product_tile(panel, rows, columns, tile)
    return product


@triton.jit
def finished(panel, product, rows, columns):
    """Scores from inner products, or from twice the squared violations for an order."""
    return panel.similarity.length(panel.similarity.sums(product, panel, rows, columns))


@triton.jit
def score_tile(panel, extent, rows, columns, tile):
    """Scores of ``rows`` against ``columns``, float32; those outside the extent have no meaning, but are numbers."""
    return finished(panel, raw_tile(panel, extent, rows, columns, tile), rows, columns)
