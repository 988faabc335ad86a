"""The first candidate of every row and the first row of every candidate, in one pass: ``select`` with k = 1."""

from __future__ import annotations

import triton
import triton.language as tl

from hardneg.ops.triton.admission import admitted
from hardneg.ops.triton.arguments import EXTENT, Extent
from hardneg.ops.triton.blocks import below_diagonal, block_of, quarters
from hardneg.ops.triton.keys import floors, raise_keys
from hardneg.ops.triton.ranking import within
from hardneg.ops.triton.scores import finished, raw_tile

__all__ = ["best_kernel"]

WIDE = tl.constexpr(128)


@triton.jit
def raise_side(
    side, ranking, scores, taken, anchors, others, inside, offset, other_offset, AXIS: tl.constexpr
):
    """Raise the keys of one side: the selection's, then the easiest's, then the hardest's."""
    if ranking.value is not None:
        own, other = anchors.to(tl.int64) + offset, others.to(tl.int64) + other_offset
        values = ranking.value(scores, ranking, own, other, AXIS, side.SALT)
        bounded = within(scores, taken, side.bounds, anchors, inside, AXIS)
        values = tl.where(bounded, values, float("-inf"))
        raise_keys(side.keys, values, anchors, inside, others, AXIS)
    if side.easiest is not None:
        values = tl.where(taken, -scores, float("-inf"))
        raise_keys(side.easiest, values, anchors, inside, others, AXIS)
    if side.hardest is not None:
        values = tl.where(taken, scores, float("-inf"))
        raise_keys(side.hardest, values, anchors, inside, others, AXIS)


@triton.jit
def reduce_tile(
    panel,
    extent,
    relation,
    ranking,
    row_keys,
    column_keys,
    product,
    rows,
    columns,
    PLAIN: tl.constexpr,
):
    """Turn a tile of products into scores, and reduce them along both axes.

    Few tiles improve anything once some have been seen. Where scores are all that counts (``PLAIN``) a tile is asked
    for that before who is related to whom.
    """
    scores = finished(panel, product, rows, columns)
    here, there = rows < extent.row_stop, columns < extent.column_stop
    wanted = 1
    if PLAIN:
        reaches = lowest_reach(row_keys, column_keys, scores, rows, columns, here, there)
        wanted = tl.max(reaches.to(tl.int32))
    if wanted > 0:
        taken = admitted(extent, relation, rows, columns)
        of_rows, of_columns = extent.row_offset, extent.column_offset
        if row_keys.keys is not None:
            raise_side(
                row_keys, ranking, scores, taken, rows, columns, here, of_rows, of_columns, 1
            )
        if column_keys.keys is not None:
            raise_side(
                column_keys, ranking, scores, taken, columns, rows, there, of_columns, of_rows, 0
            )


@triton.jit
def lowest_reach(row_keys, column_keys, scores, rows, columns, here, there):
    """Which scores reach what their row or their column has found."""
    if row_keys.keys is None:
        floor = floors(column_keys.keys, columns, there)[None]
    elif column_keys.keys is None:
        floor = floors(row_keys.keys, rows, here)[:, None]
    else:
        floor = tl.minimum(
            floors(row_keys.keys, rows, here)[:, None],
            floors(column_keys.keys, columns, there)[None],
        )
    return scores >= floor


@triton.jit(do_not_specialize=EXTENT)
def best_kernel(
    panel,
    row_start,
    row_stop,
    column_start,
    column_stop,
    row_offset,
    column_offset,
    relation,
    ranking,
    row_keys,
    column_keys,
    PLAIN: tl.constexpr,
    UPPER: tl.constexpr,
    tile,
):
    """One tile: its scores once, reduced along both axes; with ``UPPER`` none of those below the diagonal."""
    row_start, column_start = (
        row_start // 8 * 8,
        column_start // 8 * 8,
    )  # as the compiler is to know
    extent = Extent(row_start, row_stop, column_start, column_stop, row_offset, column_offset)
    row_blocks = tl.cdiv(extent.row_stop - extent.row_start, tile.ROWS)
    column_blocks = tl.cdiv(extent.column_stop - extent.column_start, tile.COLUMNS)
    row_block, column_block = block_of(tl.program_id(0), row_blocks, column_blocks)
    if UPPER:  # noqa: SIM102 -- settled when it is compiled
        if below_diagonal(extent, row_block, column_block, tile):
            return
    rows = extent.row_start + row_block * tile.ROWS + tl.arange(0, tile.ROWS)
    first = extent.column_start + column_block * tile.COLUMNS
    columns = first + tl.arange(0, tile.COLUMNS)
    product = raw_tile(panel, extent, rows, columns, tile)
    # the indices of a whole wide tile would not fit into registers beside its products
    PARTS: tl.constexpr = 4 if tile.COLUMNS >= WIDE else 1
    if PARTS == 4:
        parts = quarters(product, tile.ROWS, tile.COLUMNS)
    else:
        parts = (product,)
    for part in tl.static_range(PARTS):
        columns = first + part * (tile.COLUMNS // PARTS) + tl.arange(0, tile.COLUMNS // PARTS)
        product = parts[part]
        reduce_tile(
            panel,
            extent,
            relation,
            ranking,
            row_keys,
            column_keys,
            product,
            rows,
            columns,
            PLAIN,
        )
