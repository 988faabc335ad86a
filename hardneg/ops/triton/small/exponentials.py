"""The cross-entropy of the positive against all negatives."""

from __future__ import annotations

import triton
import triton.language as tl

from hardneg.ops.triton.small.scores import blank, logits_of, taken_scores

__all__ = ["exponential_slopes", "exponential_term"]

LOWEST = tl.constexpr(-3.4028234663852886e38)
MINUS_INFINITY = tl.constexpr(float("-inf"))


@triton.jit
def exponential_term(
    products, extent, relation, equation, anchors, others, AXIS: tl.constexpr, tile
):
    """``log(1 + sum of exp(factor * (margin - positive + negative)))`` of a block of anchors.

    Every thread adds up exponentials relative to the largest exponent that it has seen.
    """
    largest = blank(LOWEST, AXIS, tile)
    total = blank(0.0, AXIS, tile)
    weighted = total
    start = tl.zeros((), tl.int32)
    while start < others:
        other = start + tl.arange(0, tile.COLUMNS)
        scores, taken = taken_scores(products, extent, relation, anchors, other, AXIS)
        z = tl.where(taken, logits_of(equation, scores), LOWEST)
        new = tl.maximum(largest, z)
        earlier = tl.exp(largest - new)
        each = tl.where(taken, tl.exp(z - new), 0.0)
        total = total * earlier + each
        if equation.LEARNED:
            weighted = weighted * earlier + each * scores
        largest = new
        start += tile.COLUMNS
    top = tl.max(largest, AXIS)
    parts = tl.exp(largest - tl.expand_dims(top, AXIS))
    whole = tl.sum(total * parts, AXIS)
    found = anchors.has & (whole > 0.0)
    whole = tl.where(whole > 0.0, whole, 1.0)
    lse = tl.where(found, top + tl.log(whole), 0.0)
    x = lse - logits_of(equation, anchors.beyond)
    value = tl.where(found, equation.form.value(x), 0.0)
    pull = tl.where(found, equation.form.slope(x), 0.0)
    share = pull
    if equation.LEARNED:
        share = pull * (tl.sum(weighted * parts, AXIS) / whole - anchors.beyond)
    return value, tl.where(found, 1.0, 0.0), pull, pull, lse, share


@triton.jit
def exponential_slopes(equation, scores, taken, others, pull, kept, AXIS: tl.constexpr):
    """The pull of an anchor, divided among its negatives by softmax."""
    taken = taken & tl.expand_dims(pull > 0.0, AXIS)
    z = logits_of(equation, scores) - tl.expand_dims(kept, AXIS)
    return tl.exp(tl.where(taken, z, MINUS_INFINITY)) * tl.expand_dims(pull, AXIS)
