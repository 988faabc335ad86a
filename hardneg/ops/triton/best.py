"""The first candidate of every row and the first row of every candidate, in one pass: ``select`` with k = 1."""

from __future__ import annotations

import triton
import triton.language as tl

from hardneg.ops.triton.admission import admitted
from hardneg.ops.triton.blocks import block_of, quarters
from hardneg.ops.triton.keys import raise_keys
from hardneg.ops.triton.ranking import within
from hardneg.ops.triton.scores import finished, raw_tile

__all__ = ["best_kernel"]

WIDE = tl.constexpr(128)


@triton.jit
def raise_side(side, ranking, scores, taken, anchors, others, inside, AXIS: tl.constexpr):
    """Raise the keys of one side: the selection's, then the easiest's, then the hardest's, ``length`` apart."""
    if ranking.value is not None:
        own, other = anchors.to(tl.int64) + side.offset, others.to(tl.int64) + side.other_offset
        values = ranking.value(scores, ranking, own, other, AXIS, side.SALT)
        bounded = within(scores, taken, side.bounds, anchors, inside, AXIS)
        values = tl.where(bounded, values, float("-inf"))
        raise_keys(side.keys, values, anchors, inside, others, AXIS)
    if side.EASIEST:
        values = tl.where(taken, -scores, float("-inf"))
        raise_keys(side.keys + side.length, values, anchors, inside, others, AXIS)
    if side.HARDEST:
        values = tl.where(taken, scores, float("-inf"))
        raise_keys(side.keys + 2 * side.length, values, anchors, inside, others, AXIS)


@triton.jit
def reduce_tile(panel, relation, ranking, row_keys, column_keys, product, rows, columns):
    """Turn a tile of products into scores, and reduce them along both axes."""
    scores = finished(panel, product, rows, columns)
    taken = admitted(panel, relation, rows, columns)
    if row_keys.keys is not None:
        inside = rows < panel.row_stop
        raise_side(row_keys, ranking, scores, taken, rows, columns, inside, 1)
    if column_keys.keys is not None:
        inside = columns < panel.column_stop
        raise_side(column_keys, ranking, scores, taken, columns, rows, inside, 0)


@triton.jit
def best_kernel(panel, relation, ranking, row_keys, column_keys, tile):
    """One tile: its scores once, reduced along both axes."""
    row_blocks = tl.cdiv(panel.row_stop - panel.row_start, tile.ROWS)
    column_blocks = tl.cdiv(panel.column_stop - panel.column_start, tile.COLUMNS)
    row_block, column_block = block_of(tl.program_id(0), row_blocks, column_blocks)
    rows = panel.row_start + row_block * tile.ROWS + tl.arange(0, tile.ROWS)
    first = panel.column_start + column_block * tile.COLUMNS
    columns = first + tl.arange(0, tile.COLUMNS)
    product = raw_tile(panel, rows, columns, tile)
    # the indices of a whole wide tile would not fit into registers beside its products
    PARTS: tl.constexpr = 4 if tile.COLUMNS >= WIDE else 1
    if PARTS == 4:
        parts = quarters(product, tile.ROWS, tile.COLUMNS)
    else:
        parts = (product,)
    for part in tl.static_range(PARTS):
        columns = first + part * (tile.COLUMNS // PARTS) + tl.arange(0, tile.COLUMNS // PARTS)
        reduce_tile(panel, relation, ranking, row_keys, column_keys, parts[part], rows, columns)
