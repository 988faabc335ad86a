"""The first candidate of every row and the first row of every candidate, in one pass: ``select`` with k = 1."""

from __future__ import annotations

import triton
import triton.language as tl

from hardneg.ops.triton.best_tile import reduce_tile
from hardneg.ops.triton.blocks import block_of, quarters
from hardneg.ops.triton.scores import raw_tile

__all__ = ["best_kernel"]

WIDE = tl.constexpr(128)


@triton.jit
def best_kernel(
    queries,
    query_stride,
    candidates,
    candidate_stride,
    row_terms,
    column_terms,
    panel,
    panel_stride,
    row_start,
    row_stop,
    column_start,
    column_stop,
    row_ids,
    column_ids,
    positives,
    positives_row_stride,
    positives_column_stride,
    ignore,
    ignore_row_stride,
    ignore_column_stride,
    row_offset,
    column_offset,
    row_floor,
    row_ceiling,
    column_floor,
    column_ceiling,
    seed,
    row_keys,
    row_count,
    column_keys,
    column_count,
    SOURCE: tl.constexpr,
    SIMILARITY: tl.constexpr,
    WIDTH: tl.constexpr,
    PRECISION: tl.constexpr,
    UPCAST: tl.constexpr,
    AMONG: tl.constexpr,
    PAIRED: tl.constexpr,
    SAME_SET: tl.constexpr,
    ORDER: tl.constexpr,
    DISTANCE: tl.constexpr,
    DENSITY: tl.constexpr,
    CUTOFF: tl.constexpr,
    FARTHEST: tl.constexpr,
    EASIEST: tl.constexpr,
    HARDEST: tl.constexpr,
    ROW_SALT: tl.constexpr,
    COLUMN_SALT: tl.constexpr,
    BLOCK_ROWS: tl.constexpr,
    BLOCK_COLUMNS: tl.constexpr,
    BLOCK_DEPTH: tl.constexpr,
):
    """One tile: its scores once, reduced along both axes."""
    row_blocks = tl.cdiv(row_stop - row_start, BLOCK_ROWS)
    column_blocks = tl.cdiv(column_stop - column_start, BLOCK_COLUMNS)
    row_block, column_block = block_of(tl.program_id(0), row_blocks, column_blocks)
    rows = row_start + row_block * BLOCK_ROWS + tl.arange(0, BLOCK_ROWS)
    first = column_start + column_block * BLOCK_COLUMNS
    columns = first + tl.arange(0, BLOCK_COLUMNS)
    # fmt: off
    product = raw_tile(
        queries, query_stride, candidates, candidate_stride,
        panel, panel_stride, row_start, row_stop, column_start, column_stop, rows, columns,
        SOURCE, SIMILARITY, WIDTH, PRECISION, UPCAST, BLOCK_ROWS, BLOCK_COLUMNS, BLOCK_DEPTH,
    )
    # the indices of a whole wide tile would not fit into registers beside its products
    PARTS: tl.constexpr = 4 if BLOCK_COLUMNS >= WIDE else 1
    if PARTS == 4:
        parts = quarters(product, BLOCK_ROWS, BLOCK_COLUMNS)
    else:
        parts = (product,)
    for part in tl.static_range(PARTS):
        reduce_tile(
            parts[part], row_terms, column_terms, rows,
            first + part * (BLOCK_COLUMNS // PARTS) + tl.arange(0, BLOCK_COLUMNS // PARTS),
            row_stop, column_stop, row_ids, column_ids,
            positives, positives_row_stride, positives_column_stride,
            ignore, ignore_row_stride, ignore_column_stride, row_offset, column_offset,
            row_floor, row_ceiling, column_floor, column_ceiling, seed,
            row_keys, row_count, column_keys, column_count, AMONG, PAIRED, SAME_SET,
            ORDER, DISTANCE, DENSITY, CUTOFF, FARTHEST, EASIEST, HARDEST, ROW_SALT, COLUMN_SALT,
            SIMILARITY,
        )
    # fmt: on
