"""What a tile's scores mean for ``penalty_sum``: terms reduced along both axes, and the weights of the scores."""

from __future__ import annotations

import triton
import triton.language as tl

from hardneg.ops.triton.ranking import within

__all__ = ["penalty_part"]

MINUS_INFINITY = tl.constexpr(float("-inf"))


@triton.jit
def take_side(side, form, sign, scores, logits, taken, own, other, AXIS: tl.constexpr):
    """Report terms to the anchors of one side; returns the weights of the scores, 0 where anchors have none."""
    inside = own.anchors < own.stop
    taken = within(scores, taken, side.bounds, own.anchors, inside, AXIS)
    threshold = tl.load(side.thresholds + own.anchors, mask=inside, other=0.0)
    x = tl.where(taken, sign * (logits - tl.expand_dims(threshold, AXIS)), MINUS_INFINITY)
    value = form.value(x)
    place = side.partials + other.block.to(tl.int64) * side.width + (own.anchors - own.start)
    plane = other.blocks.to(tl.int64) * side.width
    tl.store(place, tl.sum(value, AXIS))
    tl.store(place + plane, tl.sum(tl.where(value > 0.0, 1.0, 0.0), AXIS))
    tl.store(place + 2 * plane, tl.max(x, AXIS))
    result = tl.zeros_like(scores)
    if side.weights is not None:
        slope = form.slope(x)
        tl.store(place + 3 * plane, tl.sum(slope, AXIS))
        weight = tl.load(side.weights + own.anchors, mask=inside, other=0.0)
        result = slope * tl.expand_dims(weight, AXIS)
    return result


@triton.jit
def penalty_part(terms, scores, taken, rows, columns, part, WEIGHTED: tl.constexpr):
    """``phi(sign * (scale * score - threshold))`` of both sides; returns d(total)/d(score)."""
    sign, _ = terms.numbers
    logits = scores if terms.scale is None else scores * tl.load(terms.scale)
    w = tl.zeros_like(scores)
    if terms.rows.thresholds is not None:
        w += take_side(terms.rows, terms.form, sign, scores, logits, taken, rows, columns, 1)
    if terms.columns.thresholds is not None:
        w += take_side(terms.columns, terms.form, sign, scores, logits, taken, columns, rows, 0)
    w *= sign
    if WEIGHTED and terms.scale is not None:
        tl.store(terms.shares + part, tl.sum(w * scores))
        w *= tl.load(terms.scale)
    return w
