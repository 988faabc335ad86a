"""The kernel of the dense reductions: a tile is scored once; what follows from its scores is done part by part."""

from __future__ import annotations

import triton
import triton.language as tl

from hardneg.ops.triton.admission import admitted
from hardneg.ops.triton.blocks import block_of, quarters
from hardneg.ops.triton.exponential_part import exponential_part
from hardneg.ops.triton.penalty_part import penalty_part
from hardneg.ops.triton.scores import score_tile
from hardneg.ops.triton.weight_part import store_weights

__all__ = ["PARTS", "dense_kernel"]

PARTS = 4
"""Into how many parts the columns of a tile are taken: what is computed from a whole tile of 128 x 128 would need
more registers than there are beside the scores themselves."""

QUARTERS = tl.constexpr(PARTS)


@triton.jit
def dense_kernel(
    queries, query_stride, candidates, candidate_stride, row_terms, column_terms,
    panel, panel_stride, row_start, row_stop, column_start, column_stop,
    row_ids, column_ids, positives, positives_row_stride, positives_column_stride,
    ignore, ignore_row_stride, ignore_column_stride, row_offset, column_offset,
    row_side, column_side, scale, numbers, shares,
    weights, weights_stride, gain, row_pulls, row_width, column_pulls, column_width,
    SOURCE: tl.constexpr, SIMILARITY: tl.constexpr, WIDTH: tl.constexpr, PRECISION: tl.constexpr,
    UPCAST: tl.constexpr, AMONG: tl.constexpr, PAIRED: tl.constexpr, SAME_SET: tl.constexpr,
    REDUCTION: tl.constexpr, FORM: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr,
    BLOCK_ROWS: tl.constexpr, BLOCK_COLUMNS: tl.constexpr, BLOCK_DEPTH: tl.constexpr,
):  # fmt: skip
    """Report what a tile's terms add up to, and with ``weights`` write d(total)/d(score) into their panel."""
    row_blocks = tl.cdiv(row_stop - row_start, BLOCK_ROWS)
    column_blocks = tl.cdiv(column_stop - column_start, BLOCK_COLUMNS)
    row_block, column_block = block_of(tl.program_id(0), row_blocks, column_blocks)
    rows = row_start + row_block * BLOCK_ROWS + tl.arange(0, BLOCK_ROWS)
    columns = column_start + column_block * BLOCK_COLUMNS + tl.arange(0, BLOCK_COLUMNS)
    # fmt: off
    needed = 1
    if AMONG == "positives":  # most tiles have none
        taken = admitted(
            rows, columns, row_stop, column_stop, row_ids, column_ids,
            positives, positives_row_stride, positives_column_stride,
            ignore, ignore_row_stride, ignore_column_stride,
            row_offset, column_offset, AMONG, PAIRED, SAME_SET,
        )
        needed = tl.max(tl.max(taken.to(tl.int32), 1), 0)
    scores = tl.zeros((BLOCK_ROWS, BLOCK_COLUMNS), tl.float32)
    if needed > 0:
        scores = score_tile(
            queries, query_stride, candidates, candidate_stride, row_terms, column_terms,
            panel, panel_stride, row_start, row_stop, column_start, column_stop, rows, columns,
            SOURCE, SIMILARITY, WIDTH, PRECISION, UPCAST, BLOCK_ROWS, BLOCK_COLUMNS, BLOCK_DEPTH,
        )
    if SOURCE == "given":  # weights take the scores' place: all threads must have read theirs
        tl.debug_barrier()
    pieces = quarters(scores, BLOCK_ROWS, BLOCK_COLUMNS)
    for piece in tl.static_range(QUARTERS):
        part_block = column_block * QUARTERS + piece
        columns = tl.arange(0, BLOCK_COLUMNS // QUARTERS) + part_block * (BLOCK_COLUMNS // QUARTERS)
        columns += column_start
        taken = admitted(
            rows, columns, row_stop, column_stop, row_ids, column_ids,
            positives, positives_row_stride, positives_column_stride,
            ignore, ignore_row_stride, ignore_column_stride,
            row_offset, column_offset, AMONG, PAIRED, SAME_SET,
        )
        part = tl.program_id(0) * QUARTERS + piece
        if REDUCTION == "penalty_sum":
            w = penalty_part(
                pieces[piece], taken, row_side, column_side, scale, numbers, shares, part,
                rows, row_start, row_stop, row_block, row_blocks,
                columns, column_start, column_stop, part_block, column_blocks * QUARTERS,
                weights is not None, FORM, ROWS, COLUMNS,
            )
        else:
            w = exponential_part(
                pieces[piece], taken, row_side, column_side, scale, numbers, shares, part,
                rows, row_start, row_stop, row_block, row_blocks,
                columns, column_start, column_stop, part_block, column_blocks * QUARTERS,
                weights is not None, FORM, ROWS, COLUMNS,
            )
        if weights is not None:
            store_weights(
                w, pieces[piece], row_terms, column_terms, rows, columns,
                row_start, row_stop, column_start, column_stop, row_block, part_block,
                weights, weights_stride, gain, row_pulls, row_width, column_pulls, column_width,
                SIMILARITY,
            )
        tl.debug_barrier()  # keeps the compiler from taking up all parts at once
    # fmt: on
