"""The kernel of the dense reductions: a tile is scored once; what follows from its scores is done part by part."""

from __future__ import annotations

import triton
import triton.language as tl

from hardneg.ops.triton.admission import admitted
from hardneg.ops.triton.arguments import EXTENT, Block, Extent
from hardneg.ops.triton.blocks import block_of, quarters
from hardneg.ops.triton.scores import score_tile
from hardneg.ops.triton.weight_part import store_weights

__all__ = ["PARTS", "dense_kernel"]

PARTS = 4
"""Into how many parts the columns of a tile are taken: what is computed from a whole tile of 128 x 128 would need
more registers than there are beside the scores themselves."""

QUARTERS = tl.constexpr(PARTS)


@triton.jit(do_not_specialize=EXTENT)
def dense_kernel(
    panel,
    row_start,
    row_stop,
    column_start,
    column_stop,
    row_offset,
    column_offset,
    relation,
    terms,
    weights,
    tile,
):
    """Report what a tile's terms add up to, and with ``weights`` write d(total)/d(score) into their panel."""
    row_start, column_start = (
        row_start // 8 * 8,
        column_start // 8 * 8,
    )  # as the compiler is to know
    extent = Extent(row_start, row_stop, column_start, column_stop, row_offset, column_offset)
    row_blocks = tl.cdiv(extent.row_stop - extent.row_start, tile.ROWS)
    column_blocks = tl.cdiv(extent.column_stop - extent.column_start, tile.COLUMNS)
    row_block, column_block = block_of(tl.program_id(0), row_blocks, column_blocks)
    rows = extent.row_start + row_block * tile.ROWS + tl.arange(0, tile.ROWS)
    columns = extent.column_start + column_block * tile.COLUMNS + tl.arange(0, tile.COLUMNS)
    needed = 1
    if relation.AMONG == "positives":  # most tiles have none
        needed = tl.max(tl.max(admitted(extent, relation, rows, columns).to(tl.int32), 1), 0)
    scores = tl.zeros((tile.ROWS, tile.COLUMNS), tl.float32)
    if needed > 0:
        scores = score_tile(panel, extent, rows, columns, tile)
    if panel.SOURCE == "given":  # weights take the scores' place: all threads must have read theirs
        tl.debug_barrier()
    pieces = quarters(scores, tile.ROWS, tile.COLUMNS)
    row_side = Block(rows, extent.row_start, extent.row_stop, row_block, row_blocks)
    found = ()
    for piece in tl.static_range(QUARTERS):
        part_block = column_block * QUARTERS + piece
        columns = tl.arange(0, tile.COLUMNS // QUARTERS) + part_block * (tile.COLUMNS // QUARTERS)
        columns += extent.column_start
        start, stop, parts = extent.column_start, extent.column_stop, column_blocks * QUARTERS
        column_side = Block(columns, start, stop, part_block, parts)
        taken = admitted(extent, relation, rows, columns)
        w, found = terms.part(
            terms, pieces[piece], taken, row_side, column_side, found, weights.x is not None
        )
        if weights.x is not None:
            store_weights(weights, panel, w, pieces[piece], row_side, column_side)
        tl.debug_barrier()  # keeps the compiler from taking up all parts at once
    columns = extent.column_start + column_block * tile.COLUMNS + tl.arange(0, tile.COLUMNS)
    column_side = Block(
        columns, extent.column_start, extent.column_stop, column_block, column_blocks
    )
    terms.report(terms, found, row_side, column_side)
