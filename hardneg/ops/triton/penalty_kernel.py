"""One tile of ``penalty_sum``: terms reduced along both axes and, where anchors have weights, the tile of weights."""

from __future__ import annotations

import triton
import triton.language as tl

from hardneg.ops.triton.admission import admitted
from hardneg.ops.triton.best import block_of
from hardneg.ops.triton.phi import penalty_slope, penalty_value
from hardneg.ops.triton.ranking import within
from hardneg.ops.triton.scores import score_tile
from hardneg.ops.triton.weigh import store_weights

__all__ = ["penalty_kernel"]


@triton.jit
def take_side(
    side,
    scores,
    logits,
    taken,
    sign,
    anchors,
    start,
    inside,
    block,
    blocks,
    PENALTY: tl.constexpr,
    AXIS: tl.constexpr,
):
    """Report a tile's terms to the anchors of one side; returns the weights of its scores, 0 where they have none."""
    thresholds, floors, ceilings, weights, partials, width = side
    taken = within(scores, taken, floors, ceilings, anchors, inside, AXIS)
    threshold = tl.load(thresholds + anchors, mask=inside, other=0.0)
    x = tl.where(taken, sign * (logits - tl.expand_dims(threshold, AXIS)), float("-inf"))
    value = penalty_value(x, PENALTY)
    place = partials + block.to(tl.int64) * width + (anchors - start)
    plane = blocks.to(tl.int64) * width
    tl.store(place, tl.sum(value, AXIS), mask=inside)
    tl.store(place + plane, tl.sum(tl.where(value > 0.0, 1.0, 0.0), AXIS), mask=inside)
    tl.store(place + 2 * plane, tl.max(x, AXIS), mask=inside)
    result = tl.zeros_like(scores)
    if weights is not None:
        slope = penalty_slope(x, PENALTY)
        tl.store(place + 3 * plane, tl.sum(slope, AXIS), mask=inside)
        weight = tl.load(weights + anchors, mask=inside, other=0.0)
        result = slope * tl.expand_dims(weight, AXIS)
    return result


@triton.jit
def penalty_kernel(
    queries, query_stride, candidates, candidate_stride, row_terms, column_terms,
    panel, panel_stride, row_start, row_stop, column_start, column_stop,
    row_ids, column_ids, positives, positives_row_stride, positives_column_stride,
    ignore, ignore_row_stride, ignore_column_stride, row_offset, column_offset,
    row_side, column_side, scale, sign, scale_shares,
    weights, weights_stride, gain, row_pulls, row_width, column_pulls, column_width,
    SOURCE: tl.constexpr, SIMILARITY: tl.constexpr, WIDTH: tl.constexpr, PRECISION: tl.constexpr,
    UPCAST: tl.constexpr, AMONG: tl.constexpr, PAIRED: tl.constexpr, SAME_SET: tl.constexpr,
    PENALTY: tl.constexpr,
    BLOCK_ROWS: tl.constexpr, BLOCK_COLUMNS: tl.constexpr, BLOCK_DEPTH: tl.constexpr,
):  # fmt: skip
    """Scores once; ``x = sign * (scale * score - threshold)`` of each side, phi(x) summed along its axis."""
    row_blocks = tl.cdiv(row_stop - row_start, BLOCK_ROWS)
    column_blocks = tl.cdiv(column_stop - column_start, BLOCK_COLUMNS)
    row_block, column_block = block_of(tl.program_id(0), row_blocks, column_blocks)
    rows = row_start + row_block * BLOCK_ROWS + tl.arange(0, BLOCK_ROWS)
    columns = column_start + column_block * BLOCK_COLUMNS + tl.arange(0, BLOCK_COLUMNS)
    # fmt: off
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
    logits = scores if scale is None else scores * tl.load(scale)
    w = tl.zeros_like(scores)
    if row_side is not None:
        w += take_side(
            row_side, scores, logits, taken, sign, rows, row_start, rows < row_stop,
            column_block, column_blocks, PENALTY, 1,
        )
    if column_side is not None:
        w += take_side(
            column_side, scores, logits, taken, sign, columns, column_start, columns < column_stop,
            row_block, row_blocks, PENALTY, 0,
        )
    if weights is not None:
        w *= sign
        if scale is not None:
            tl.store(scale_shares + tl.program_id(0), tl.sum(w * scores))
            w *= tl.load(scale)
        store_weights(
            w, scores, row_terms, column_terms, rows, columns,
            row_start, row_stop, column_start, column_stop, row_block, column_block,
            weights, weights_stride, gain, row_pulls, row_width, column_pulls, column_width,
            SIMILARITY,
        )
    # fmt: on
