"""The term of the highest-scoring negative, of all or of those below a ceiling."""

from __future__ import annotations

import triton
import triton.language as tl

from hardneg.ops.triton.small.scores import blank, logits_of, taken_scores

__all__ = ["chosen_term"]

LOWEST = tl.constexpr(-3.4028234663852886e38)
BEHIND = tl.constexpr(2**31 - 1)


@triton.jit
def first_of(best, at, AXIS: tl.constexpr):
    """The highest of every anchor, and the smallest number among equals."""
    top = tl.max(best, AXIS)
    return top, tl.min(tl.where(best == tl.expand_dims(top, AXIS), at, BEHIND), AXIS)


@triton.jit
def chosen_term(products, extent, relation, equation, anchors, others, AXIS: tl.constexpr, tile):
    """``phi(factor * (margin - positive + negative))`` of a block of anchors; see ``terms_kernel`` for what it returns.

    Every thread keeps the best of what it has seen; of equals that is the first, since numbers rise.
    """
    best = blank(LOWEST, AXIS, tile)
    at = blank(0.0, AXIS, tile).to(tl.int32)
    spare, spare_at = best, at
    positives = anchors.positives
    bound = positives - equation.bound.steep * tl.abs(positives) + equation.bound.offset
    start = tl.zeros((), tl.int32)
    while start < others:
        other = start + tl.arange(0, tile.COLUMNS)
        scores, taken = taken_scores(products, extent, relation, anchors, other, AXIS)
        number = tl.expand_dims(other, 1 - AXIS)
        if equation.FALLBACK != "none":
            keys = scores
            if equation.FALLBACK == "easiest":
                keys = -scores
            better = taken & (keys > spare)
            spare = tl.where(better, keys, spare)
            spare_at = tl.where(better, number, spare_at)
        if equation.BOUNDED:
            taken = taken & (scores < tl.expand_dims(bound, AXIS))
        better = taken & (scores > best)
        best = tl.where(better, scores, best)
        at = tl.where(better, number, at)
        start += tile.COLUMNS
    top, index = first_of(best, at, AXIS)
    if equation.FALLBACK != "none":
        key, key_index = first_of(spare, spare_at, AXIS)
        rescued = (top == LOWEST) & (key > LOWEST)
        if equation.FALLBACK == "easiest":
            key = -key
        top = tl.where(rescued, key, top)
        index = tl.where(rescued, key_index, index)
    found = anchors.has & (top > LOWEST)
    difference = tl.where(found, top, 0.0) - anchors.beyond
    x = logits_of(equation, difference)
    value = tl.where(found, equation.form.value(x), 0.0)
    pull = tl.where(found, equation.form.slope(x), 0.0)
    count = tl.where(found, 1.0, 0.0)
    if equation.ACTIVE:
        count = tl.where(value > 0.0, 1.0, 0.0)
    kept = index.to(tl.float32, bitcast=True)
    return value, count, pull, pull, kept, pull * difference
