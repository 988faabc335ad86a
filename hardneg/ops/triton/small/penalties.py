"""The term of all negatives: the sum of their penalties."""

from __future__ import annotations

import triton
import triton.language as tl

from hardneg.ops.triton.small.scores import blank, taken_scores

__all__ = ["penalty_slopes", "penalty_term"]

MINUS_INFINITY = tl.constexpr(float("-inf"))


@triton.jit
def penalty_term(products, extent, relation, equation, anchors, others, AXIS: tl.constexpr, tile):
    """The sum of ``phi(margin - positive + negative)`` of a block of anchors."""
    values = blank(0.0, AXIS, tile)
    slopes, counts, largest = values, values, values
    start = tl.zeros((), tl.int32)
    while start < others:
        other = start + tl.arange(0, tile.COLUMNS)
        scores, taken = taken_scores(products, extent, relation, anchors, other, AXIS)
        x = tl.where(taken, scores - tl.expand_dims(anchors.beyond, AXIS), MINUS_INFINITY)
        value, slope = equation.form.value(x), equation.form.slope(x)
        values += value
        slopes += slope
        if equation.ACTIVE:
            counts += tl.where(value > 0.0, 1.0, 0.0)
        else:
            counts = tl.where(taken, 1.0, counts)
        if equation.STEEP:
            largest = tl.maximum(largest, slope)
        start += tile.COLUMNS
    value = tl.where(anchors.has, tl.sum(values, AXIS), 0.0)
    pull = tl.where(anchors.has, tl.sum(slopes, AXIS), 0.0)
    if equation.ACTIVE:
        count = tl.sum(counts, AXIS)
    else:
        count = tl.max(counts, AXIS)
    top = tl.where(pull > 0.0, 1.0, 0.0)
    if equation.STEEP:
        top = tl.where(anchors.has, tl.max(largest, AXIS), 0.0)
    return value, tl.where(anchors.has, count, 0.0), pull, top, anchors.beyond, pull


@triton.jit
def penalty_slopes(equation, scores, taken, others, pull, kept, AXIS: tl.constexpr):
    """The slope of every negative; none has one where their sum is 0."""
    taken = taken & tl.expand_dims(pull > 0.0, AXIS)
    x = tl.where(taken, scores - tl.expand_dims(kept, AXIS), MINUS_INFINITY)
    return equation.form.slope(x)
