"""What a tile's scores mean for ``logsumexp``: shares of the sums of exponentials, or the weights of the scores."""

from __future__ import annotations

import triton
import triton.language as tl

from hardneg.ops.triton.lists import added
from hardneg.ops.triton.ranking import within

__all__ = ["exponential_part", "report_scale"]

MINUS_INFINITY = tl.constexpr(float("-inf"))


@triton.jit
def report(side, scores, logits, taken, own, other, AXIS: tl.constexpr):
    """Report the largest exponents, and sums of exponentials relative to them, to the anchors of one side."""
    inside = own.anchors < own.stop
    taken = within(scores, taken, side.bounds, own.anchors, inside, AXIS)
    z = tl.where(taken, logits, MINUS_INFINITY)
    largest = tl.max(z, AXIS)
    finite = tl.where(largest > MINUS_INFINITY, largest, 0.0)  # -inf less -inf would be NaN
    place = side.partials + other.block.to(tl.int64) * side.width + (own.anchors - own.start)
    tl.store(place, largest)
    total = tl.sum(tl.exp(z - tl.expand_dims(finite, AXIS)), AXIS)
    tl.store(place + other.blocks.to(tl.int64) * side.width, total)


@triton.jit
def softmax_weights(side, scores, logits, taken, own, AXIS: tl.constexpr):
    """Upstream gradient times softmax, from the log-sum-exps of one side."""
    inside = own.anchors < own.stop
    taken = within(scores, taken, side.bounds, own.anchors, inside, AXIS)
    result = tl.load(side.thresholds + own.anchors, mask=inside, other=0.0)
    upstream = tl.load(side.weights + own.anchors, mask=inside, other=0.0)
    z = tl.where(taken, logits - tl.expand_dims(result, AXIS), MINUS_INFINITY)
    return tl.exp(z) * tl.expand_dims(upstream, AXIS)


@triton.jit
def exponential_part(terms, scores, taken, rows, columns, found, WEIGHTED: tl.constexpr):
    """``exp(scale * energy(score))`` of both sides; returns d(total)/d(score), 0 where that is not asked for."""
    first, second = terms.numbers
    energies = terms.form.value(scores, first, second)
    logits = energies if terms.scale is None else energies * tl.load(terms.scale)
    w = tl.zeros_like(scores)
    if not WEIGHTED:
        if terms.rows.thresholds is not None:
            report(terms.rows, scores, logits, taken, rows, columns, 1)
        if terms.columns.thresholds is not None:
            report(terms.columns, scores, logits, taken, columns, rows, 0)
    else:
        if terms.rows.thresholds is not None:
            w += softmax_weights(terms.rows, scores, logits, taken, rows, 1)
        if terms.columns.thresholds is not None:
            w += softmax_weights(terms.columns, scores, logits, taken, columns, 0)
        if terms.scale is not None:
            found = added(found, (tl.sum(w * energies),))
            w *= tl.load(terms.scale)
        w *= terms.form.slope(scores, first, second)
    return w, found


@triton.jit
def report_scale(terms, found, rows, columns):
    """Report the scale's share; of exponentials every part has reported its own."""
    if len(found) > 0:
        tl.store(terms.shares + tl.program_id(0), found[0])
