"""The first k candidates of every row: ``select`` with k > 1."""

from __future__ import annotations

import triton
import triton.language as tl

from hardneg.ops.triton.admission import admitted
from hardneg.ops.triton.arguments import EXTENT, Extent
from hardneg.ops.triton.keys import LOW_HALF, NO_KEY, pack, value_of
from hardneg.ops.triton.ranking import within
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


@triton.jit(do_not_specialize=[*EXTENT, "share"])
def top_kernel(
    panel,
    row_start,
    row_stop,
    column_start,
    column_stop,
    row_offset,
    column_offset,
    relation,
    ranking,
    side,
    share,
    PLACES: tl.constexpr,
    tile,
):
    """A block of rows against its share of the columns; the lists stay in registers."""
    row_start, column_start = (
        row_start // 8 * 8,
        column_start // 8 * 8,
    )  # as the compiler is to know
    extent = Extent(row_start, row_stop, column_start, column_stop, row_offset, column_offset)
    rows = extent.row_start + tl.program_id(0) * tile.ROWS + tl.arange(0, tile.ROWS)
    held = tl.zeros((tile.ROWS, PLACES), tl.int64) + EMPTY + tl.arange(0, PLACES)[None]
    start = extent.column_start + tl.program_id(1) * share
    stop = tl.minimum(start + share, extent.column_stop)
    while start < stop:
        columns = start + tl.arange(0, tile.COLUMNS)
        scores = score_tile(panel, extent, rows, columns, tile)
        taken = admitted(extent, relation, rows, columns)
        own, other = rows.to(tl.int64) + row_offset, columns.to(tl.int64) + column_offset
        values = ranking.value(scores, ranking, own, other, 1, side.SALT)
        taken = within(scores, taken, side.bounds, rows, rows < extent.row_stop, 1)
        held = take_in(held, tl.where(taken, values, float("-inf")), columns)
        start += tile.COLUMNS
    height = extent.row_stop - extent.row_start
    place = (tl.program_id(1).to(tl.int64) * height + rows - extent.row_start)[:, None] * PLACES
    inside = (rows < extent.row_stop)[:, None]
    tl.store(side.keys + place + tl.arange(0, PLACES)[None], held, mask=inside)
