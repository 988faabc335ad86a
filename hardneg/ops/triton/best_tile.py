"""Reduction of one tile of scores by rows and by columns, for ``select`` with k = 1."""

from __future__ import annotations

import triton
import triton.language as tl

from hardneg.ops.triton.admission import admitted
from hardneg.ops.triton.keys import raise_keys
from hardneg.ops.triton.ranking import ranked, within
from hardneg.ops.triton.scores import finished

__all__ = ["reduce_tile"]


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
