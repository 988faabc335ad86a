"""Folding what every tile of a panel found about its rows or columns into one number an anchor, in a fixed order.

No floating-point atomics: tiles write their partial results side by side, and these kernels add them up from
the first block to the last, so that results are the same bit for bit. A buffer of partial results is
[planes, blocks, width]: what is known of an anchor, from which block of the other side, of which anchor.
"""

from __future__ import annotations

import triton
import triton.language as tl

__all__ = ["fold_exponentials", "fold_penalties"]

MINUS_INFINITY = tl.constexpr(float("-inf"))


@triton.jit
def plane(reported, number, at, there, blocks, MISSING: tl.constexpr):
    """A piece of one plane; ``MISSING`` where it has no entry."""
    first = reported.partials + number * blocks.to(tl.int64) * reported.width
    return tl.load(first + at, mask=there, other=MISSING)


@triton.jit(do_not_specialize=["blocks", "length"])
def fold_penalties(
    reported,
    blocks,
    length,
    results,
    weights,
    sign,
    COUNTS: tl.constexpr,
    EARLIER: tl.constexpr,
    tile,
):
    """Planes: sums of phi, counts of phi > 0, slopes where anchors have weights, and largest arguments where wanted.

    Slopes that are ``COUNTS`` have no plane. Results are the same; the slopes become the gradient of the thresholds.
    With ``EARLIER`` panels have left their share in the results.
    """
    anchor = tl.program_id(0).to(tl.int64) * tile.COLUMNS + tl.arange(0, tile.COLUMNS)
    ok = anchor < length
    sums, counts, maxima, slopes = results
    OWN_SLOPES: tl.constexpr = weights is not None and not COUNTS
    total = tl.zeros((tile.COLUMNS,), tl.float32)
    slope = tl.zeros((tile.COLUMNS,), tl.float32)
    count = tl.zeros((tile.COLUMNS,), tl.int64)
    largest = tl.full((tile.COLUMNS,), MINUS_INFINITY, tl.float32)
    first = tl.zeros((), tl.int32)
    while first < blocks:
        block = first + tl.arange(0, tile.ROWS)
        there = (block < blocks)[:, None] & ok[None]
        at = block.to(tl.int64)[:, None] * reported.width + anchor[None]
        total += tl.sum(plane(reported, 0, at, there, blocks, 0.0), 0)
        count += tl.sum(plane(reported, 1, at, there, blocks, 0.0), 0).to(tl.int64)
        if OWN_SLOPES:
            slope += tl.sum(plane(reported, 2, at, there, blocks, 0.0), 0)
        if maxima is not None:
            last: tl.constexpr = 3 if OWN_SLOPES else 2
            highest = plane(reported, last, at, there, blocks, MINUS_INFINITY)
            largest = tl.maximum(largest, tl.max(highest, 0))
        first += tile.ROWS
    if weights is not None:
        if COUNTS:
            slope = count.to(tl.float32)
        slope = -sign * slope * tl.load(weights + anchor, mask=ok, other=0.0)
    if EARLIER:
        total += tl.load(sums + anchor, mask=ok, other=0.0)
        count += tl.load(counts + anchor, mask=ok, other=0)
        if maxima is not None:
            largest = tl.maximum(largest, tl.load(maxima + anchor, mask=ok, other=MINUS_INFINITY))
        if weights is not None:
            slope += tl.load(slopes + anchor, mask=ok, other=0.0)
    tl.store(sums + anchor, total, mask=ok)
    tl.store(counts + anchor, count, mask=ok)
    if maxima is not None:
        tl.store(maxima + anchor, largest, mask=ok)
    if weights is not None:
        tl.store(slopes + anchor, slope, mask=ok)


@triton.jit(do_not_specialize=["blocks", "length"])
def fold_exponentials(
    reported, blocks, length, results, maxima, EARLIER: tl.constexpr, LAST: tl.constexpr, tile
):
    """Planes: largest exponents, and sums of exponentials relative to them.

    ``results`` holds such a sum until the ``LAST`` panel makes the log-sum-exp of it.
    """
    anchor = tl.program_id(0).to(tl.int64) * tile.COLUMNS + tl.arange(0, tile.COLUMNS)
    ok = anchor < length
    total = tl.zeros((tile.COLUMNS,), tl.float32)
    largest = tl.full((tile.COLUMNS,), MINUS_INFINITY, tl.float32)
    if EARLIER:
        total = tl.load(results + anchor, mask=ok, other=0.0)
        largest = tl.load(maxima + anchor, mask=ok, other=MINUS_INFINITY)
    first = tl.zeros((), tl.int32)
    while first < blocks:
        block = first + tl.arange(0, tile.ROWS)
        there = (block < blocks)[:, None] & ok[None]
        at = block.to(tl.int64)[:, None] * reported.width + anchor[None]
        highest = plane(reported, 0, at, there, blocks, MINUS_INFINITY)
        parts = plane(reported, 1, at, there, blocks, 0.0)
        new = tl.maximum(largest, tl.max(highest, 0))
        finite = tl.where(new > MINUS_INFINITY, new, 0.0)  # -inf less -inf would be NaN
        total = total * tl.exp(largest - finite) + tl.sum(parts * tl.exp(highest - finite[None]), 0)
        largest = new
        first += tile.ROWS
    if LAST:
        total = largest + tl.log(tl.where(total > 0.0, total, 1.0))
    tl.store(results + anchor, total, mask=ok)
    tl.store(maxima + anchor, largest, mask=ok)
