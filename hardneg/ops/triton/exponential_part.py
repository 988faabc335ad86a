"""What a tile's scores mean for ``logsumexp``: shares of the sums of exponentials, or the weights of the scores."""

from __future__ import annotations

import triton
import triton.language as tl

from hardneg.ops.triton.forms import energy_slope, energy_value
from hardneg.ops.triton.ranking import within

__all__ = ["exponential_part"]

MINUS_INFINITY = tl.constexpr(float("-inf"))


@triton.jit
def report(side, scores, logits, taken, anchors, start, inside, block, blocks, AXIS: tl.constexpr):
    """Report the largest exponents, and sums of exponentials relative to them, to the anchors of one side."""
    floors, ceilings, _, _, partials, width = side
    taken = within(scores, taken, floors, ceilings, anchors, inside, AXIS)
    z = tl.where(taken, logits, MINUS_INFINITY)
    largest = tl.max(z, AXIS)
    finite = tl.where(largest > MINUS_INFINITY, largest, 0.0)  # -inf less -inf would be NaN
    place = partials + block.to(tl.int64) * width + (anchors - start)
    tl.store(place, largest, mask=inside)
    total = tl.sum(tl.exp(z - tl.expand_dims(finite, AXIS)), AXIS)
    tl.store(place + blocks.to(tl.int64) * width, total, mask=inside)


@triton.jit
def softmax_weights(side, scores, logits, taken, anchors, inside, AXIS: tl.constexpr):
    """Upstream gradient times softmax, from the log-sum-exps of one side."""
    floors, ceilings, results, gradient, _, _ = side
    taken = within(scores, taken, floors, ceilings, anchors, inside, AXIS)
    result = tl.load(results + anchors, mask=inside, other=0.0)
    upstream = tl.load(gradient + anchors, mask=inside, other=0.0)
    z = tl.where(taken, logits - tl.expand_dims(result, AXIS), MINUS_INFINITY)
    return tl.exp(z) * tl.expand_dims(upstream, AXIS)


@triton.jit
def exponential_part(
    scores, taken, row_side, column_side, scale, numbers, shares, part,
    rows, row_start, row_stop, row_block, row_blocks,
    columns, column_start, column_stop, column_block, column_blocks,
    WEIGHTED: tl.constexpr, ENERGY: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr,
):  # fmt: skip
    """``exp(scale * energy(score))`` of both sides; returns d(total)/d(score), 0 where that is not asked for."""
    first, second = numbers
    energies = energy_value(scores, first, second, ENERGY)
    logits = energies if scale is None else energies * tl.load(scale)
    w = tl.zeros_like(scores)
    # fmt: off
    if not WEIGHTED:
        if ROWS:
            report(
                row_side, scores, logits, taken, rows, row_start, rows < row_stop,
                column_block, column_blocks, 1,
            )
        if COLUMNS:
            report(
                column_side, scores, logits, taken, columns, column_start, columns < column_stop,
                row_block, row_blocks, 0,
            )
    else:
        if ROWS:
            w += softmax_weights(row_side, scores, logits, taken, rows, rows < row_stop, 1)
        if COLUMNS:
            inside = columns < column_stop
            w += softmax_weights(column_side, scores, logits, taken, columns, inside, 0)
        if scale is not None:
            tl.store(shares + part, tl.sum(w * energies))
            w *= tl.load(scale)
        w *= energy_slope(scores, first, second, ENERGY)
    # fmt: on
    return w
