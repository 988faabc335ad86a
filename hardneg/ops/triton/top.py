"""The first k candidates of every row: ``select`` with k > 1."""

from __future__ import annotations

import triton
import triton.language as tl

from hardneg.ops.triton.admission import admitted
from hardneg.ops.triton.keys import LOW_HALF, NO_KEY, pack, value_of
from hardneg.ops.triton.ranking import ranked, within
from hardneg.ops.triton.scores import score_tile

__all__ = ["top_kernel"]

EMPTY = tl.constexpr(NO_KEY)


@triton.jit
def take_in(held, values, columns):
    """The best of the held keys and of a tile's values, in no order.

    While any row has a value above the lowest that it holds, every such row trades the one for the other. Few
    rows do once the lists have filled. Columns rise from tile to tile, so an equal value never comes first.
    """
    lowest = tl.min(held, 1)
    best = tl.max(values, 1)
    better = best > value_of(lowest)
    while tl.max(better.to(tl.int32), 0) > 0:
        is_best = values == best[:, None]
        index = tl.min(tl.where(is_best, columns[None], LOW_HALF - 1), 1)
        # keys differ from one another, so the lowest stands in one place
        place = (held == lowest[:, None]) & better[:, None]
        held = tl.where(place, pack(best, index)[:, None], held)
        values = tl.where(columns[None] == index[:, None], float("-inf"), values)
        lowest = tl.min(held, 1)
        best = tl.max(values, 1)
        better = best > value_of(lowest)
    return held


@triton.jit
def top_kernel(
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
    seed,
    keys,
    share,
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
    ROW_SALT: tl.constexpr,
    PLACES: tl.constexpr,
    BLOCK_ROWS: tl.constexpr,
    BLOCK_COLUMNS: tl.constexpr,
    BLOCK_DEPTH: tl.constexpr,
):
    """A block of rows against its share of the columns; the lists stay in registers."""
    rows = row_start + tl.program_id(0) * BLOCK_ROWS + tl.arange(0, BLOCK_ROWS)
    held = tl.zeros((BLOCK_ROWS, PLACES), tl.int64) + EMPTY + tl.arange(0, PLACES)[None]
    start = column_start + tl.program_id(1) * share
    stop = tl.minimum(start + share, column_stop)
    # fmt: off
    while start < stop:
        columns = start + tl.arange(0, BLOCK_COLUMNS)
        scores = score_tile(
            queries, query_stride, candidates, candidate_stride, row_terms, column_terms,
            panel, panel_stride, row_start, row_stop, column_start, column_stop, rows, columns,
            SOURCE, SIMILARITY, WIDTH, PRECISION, UPCAST, BLOCK_ROWS, BLOCK_COLUMNS, BLOCK_DEPTH,
        )
        taken = admitted(
            rows, columns, row_stop, column_stop, row_ids, column_ids,
            positives, positives_row_stride, positives_column_stride,
            ignore, ignore_row_stride, ignore_column_stride,
            row_offset, column_offset, AMONG, PAIRED, SAME_SET,
        )
        values = ranked(
            scores, seed, rows.to(tl.int64) + row_offset, columns.to(tl.int64) + column_offset,
            1, ROW_SALT, ORDER, DISTANCE, DENSITY, CUTOFF, FARTHEST,
        )
        taken = within(scores, taken, row_floor, row_ceiling, rows, rows < row_stop, 1)
        held = take_in(held, tl.where(taken, values, float("-inf")), columns)
        start += BLOCK_COLUMNS
    # fmt: on
    height = row_stop - row_start
    place = (tl.program_id(1).to(tl.int64) * height + rows - row_start)[:, None] * PLACES
    tl.store(keys + place + tl.arange(0, PLACES)[None], held, mask=(rows < row_stop)[:, None])
