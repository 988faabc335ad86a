"""The first candidate of every row and the first row of every candidate, in one pass: ``select`` with k = 1."""

from __future__ import annotations

import triton
import triton.language as tl

from hardneg.ops.triton.admission import admitted
from hardneg.ops.triton.keys import raise_keys
from hardneg.ops.triton.ranking import ranked, within
from hardneg.ops.triton.scores import finished, raw_tile

__all__ = ["best_kernel", "block_of"]

GROUP = tl.constexpr(8)
WIDE = tl.constexpr(128)


@triton.jit
def block_of(program, row_blocks, column_blocks):
    """The tile of a program: groups of eight row blocks, so that programs running together share embeddings."""
    group = program // (GROUP * column_blocks)
    height = tl.minimum(row_blocks - group * GROUP, GROUP)
    place = program - group * GROUP * column_blocks
    return group * GROUP + place % height, place // height


@triton.jit
def raise_side(
    keys,
    count,
    scores,
    taken,
    floors,
    ceilings,
    seed,
    anchors,
    others,
    inside,
    anchor_offset,
    other_offset,
    AXIS: tl.constexpr,
    SALT: tl.constexpr,
    ORDER: tl.constexpr,
    DISTANCE: tl.constexpr,
    DENSITY: tl.constexpr,
    CUTOFF: tl.constexpr,
    FARTHEST: tl.constexpr,
    EASIEST: tl.constexpr,
    HARDEST: tl.constexpr,
):
    """Raise the keys of one side: the selection's, then the easiest's, then the hardest's, ``count`` apart."""
    if ORDER != "none":
        values = ranked(
            scores,
            seed,
            anchors.to(tl.int64) + anchor_offset,
            others.to(tl.int64) + other_offset,
            AXIS,
            SALT,
            ORDER,
            DISTANCE,
            DENSITY,
            CUTOFF,
            FARTHEST,
        )
        bounded = within(scores, taken, floors, ceilings, anchors, inside, AXIS)
        values = tl.where(bounded, values, float("-inf"))
        raise_keys(keys, values, anchors, inside, others, AXIS)
    if EASIEST:
        values = tl.where(taken, -scores, float("-inf"))
        raise_keys(keys + count, values, anchors, inside, others, AXIS)
    if HARDEST:
        values = tl.where(taken, scores, float("-inf"))
        raise_keys(keys + 2 * count, values, anchors, inside, others, AXIS)


@triton.jit
def reduce_tile(
    product,
    row_terms,
    column_terms,
    rows,
    columns,
    row_stop,
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
    SIMILARITY: tl.constexpr,
):
    """Turn a tile of products into scores, and reduce them along both axes."""
    # fmt: off
    scores = finished(
        product, row_terms, column_terms, rows, columns, row_stop, column_stop, SIMILARITY
    )
    taken = admitted(
        rows, columns, row_stop, column_stop, row_ids, column_ids,
        positives, positives_row_stride, positives_column_stride,
        ignore, ignore_row_stride, ignore_column_stride,
        row_offset, column_offset, AMONG, PAIRED, SAME_SET,
    )
    if row_keys is not None:
        raise_side(
            row_keys, row_count, scores, taken, row_floor, row_ceiling, seed, rows, columns,
            rows < row_stop, row_offset, column_offset, 1, ROW_SALT, ORDER,
            DISTANCE, DENSITY, CUTOFF, FARTHEST, EASIEST, HARDEST,
        )
    if column_keys is not None:
        raise_side(
            column_keys, column_count, scores, taken, column_floor, column_ceiling, seed, columns,
            rows, columns < column_stop, column_offset, row_offset, 0, COLUMN_SALT, ORDER,
            DISTANCE, DENSITY, CUTOFF, FARTHEST, EASIEST, HARDEST,
        )
    # fmt: on


@triton.jit
def halves(product, ROWS: tl.constexpr, COLUMNS: tl.constexpr):
    """The left and the right half of a tile's columns; nothing moves between threads."""
    return tl.split(tl.permute(tl.reshape(product, (ROWS, 2, COLUMNS // 2)), (0, 2, 1)))


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
    if BLOCK_COLUMNS >= WIDE:
        columns = first + tl.arange(0, BLOCK_COLUMNS // 4)
        left, right = halves(product, BLOCK_ROWS, BLOCK_COLUMNS)
        part, other = halves(left, BLOCK_ROWS, BLOCK_COLUMNS // 2)
        reduce_tile(
            part, row_terms, column_terms, rows, columns, row_stop, column_stop, row_ids, column_ids,
            positives, positives_row_stride, positives_column_stride,
            ignore, ignore_row_stride, ignore_column_stride, row_offset, column_offset,
            row_floor, row_ceiling, column_floor, column_ceiling, seed,
            row_keys, row_count, column_keys, column_count, AMONG, PAIRED, SAME_SET,
            ORDER, DISTANCE, DENSITY, CUTOFF, FARTHEST, EASIEST, HARDEST, ROW_SALT, COLUMN_SALT,
            SIMILARITY,
        )
        reduce_tile(
            other, row_terms, column_terms, rows, columns + BLOCK_COLUMNS // 4, row_stop, column_stop, row_ids, column_ids,
            positives, positives_row_stride, positives_column_stride,
            ignore, ignore_row_stride, ignore_column_stride, row_offset, column_offset,
            row_floor, row_ceiling, column_floor, column_ceiling, seed,
            row_keys, row_count, column_keys, column_count, AMONG, PAIRED, SAME_SET,
            ORDER, DISTANCE, DENSITY, CUTOFF, FARTHEST, EASIEST, HARDEST, ROW_SALT, COLUMN_SALT,
            SIMILARITY,
        )
        part, other = halves(right, BLOCK_ROWS, BLOCK_COLUMNS // 2)
        reduce_tile(
            part, row_terms, column_terms, rows, columns + BLOCK_COLUMNS // 2, row_stop, column_stop, row_ids, column_ids,
            positives, positives_row_stride, positives_column_stride,
            ignore, ignore_row_stride, ignore_column_stride, row_offset, column_offset,
            row_floor, row_ceiling, column_floor, column_ceiling, seed,
            row_keys, row_count, column_keys, column_count, AMONG, PAIRED, SAME_SET,
            ORDER, DISTANCE, DENSITY, CUTOFF, FARTHEST, EASIEST, HARDEST, ROW_SALT, COLUMN_SALT,
            SIMILARITY,
        )
        reduce_tile(
            other, row_terms, column_terms, rows, columns + 3 * (BLOCK_COLUMNS // 4), row_stop, column_stop, row_ids, column_ids,
            positives, positives_row_stride, positives_column_stride,
            ignore, ignore_row_stride, ignore_column_stride, row_offset, column_offset,
            row_floor, row_ceiling, column_floor, column_ceiling, seed,
            row_keys, row_count, column_keys, column_count, AMONG, PAIRED, SAME_SET,
            ORDER, DISTANCE, DENSITY, CUTOFF, FARTHEST, EASIEST, HARDEST, ROW_SALT, COLUMN_SALT,
            SIMILARITY,
        )
    else:
        reduce_tile(
            product, row_terms, column_terms, rows, columns, row_stop, column_stop, row_ids, column_ids,
            positives, positives_row_stride, positives_column_stride,
            ignore, ignore_row_stride, ignore_column_stride, row_offset, column_offset,
            row_floor, row_ceiling, column_floor, column_ceiling, seed,
            row_keys, row_count, column_keys, column_count, AMONG, PAIRED, SAME_SET,
            ORDER, DISTANCE, DENSITY, CUTOFF, FARTHEST, EASIEST, HARDEST, ROW_SALT, COLUMN_SALT,
            SIMILARITY,
        )
    # fmt: on
