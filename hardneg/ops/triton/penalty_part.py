"""What a tile's scores mean for ``penalty_sum``: terms reduced along both axes, and the weights of the scores."""

from __future__ import annotations

import triton
import triton.language as tl

from hardneg.ops.triton.forms import penalty_slope, penalty_value
from hardneg.ops.triton.ranking import within

__all__ = ["penalty_part"]

MINUS_INFINITY = tl.constexpr(float("-inf"))


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
    """Report terms to the anchors of one side; returns the weights of the scores, 0 where anchors have none."""
    floors, ceilings, thresholds, weights, partials, width = side
    taken = within(scores, taken, floors, ceilings, anchors, inside, AXIS)
    threshold = tl.load(thresholds + anchors, mask=inside, other=0.0)
    x = tl.where(taken, sign * (logits - tl.expand_dims(threshold, AXIS)), MINUS_INFINITY)
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
def penalty_part(
    scores, taken, row_side, column_side, scale, numbers, shares, part,
    rows, row_start, row_stop, row_block, row_blocks,
    columns, column_start, column_stop, column_block, column_blocks,
    WEIGHTED: tl.constexpr, PENALTY: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr,
):  # fmt: skip
    """``phi(sign * (scale * score - threshold))`` of both sides; returns d(total)/d(score)."""
    sign, _ = numbers
    logits = scores if scale is None else scores * tl.load(scale)
    w = tl.zeros_like(scores)
    # fmt: off
    if ROWS:
        w += take_side(
            row_side, scores, logits, taken, sign, rows, row_start, rows < row_stop,
            column_block, column_blocks, PENALTY, 1,
        )
    if COLUMNS:
        w += take_side(
            column_side, scores, logits, taken, sign, columns, column_start, columns < column_stop,
            row_block, row_blocks, PENALTY, 0,
        )
    # fmt: on
    w *= sign
    if WEIGHTED and scale is not None:
        tl.store(shares + part, tl.sum(w * scores))
        w *= tl.load(scale)
    return w
