"""What a tile's scores mean for ``penalty_sum``: terms added up along both axes, and the weights of the scores.

A tile is taken in parts of its columns, and every part is reduced and reported for itself. Where registers suffice
(``TOGETHER``), values of the rows are added to those of the parts before, and rows and columns are reduced once a tile:
that leaves a sixth of the barriers.
"""

from __future__ import annotations

import triton
import triton.language as tl

from hardneg.ops.triton.blocks import whole
from hardneg.ops.triton.lists import added, appended
from hardneg.ops.triton.ranking import within

__all__ = ["penalty_part", "report_penalties"]

MINUS_INFINITY = tl.constexpr(float("-inf"))


@triton.jit
def planes_of(side, terms, scores, logits, taken, own, AXIS: tl.constexpr):
    """What is reduced for the anchors of one side, and the slopes.

    Values, counts of those above 0, slopes where these are not the counts, arguments where the largest is wanted.
    """
    inside = own.anchors < own.stop
    taken = within(scores, taken, side.bounds, own.anchors, inside, AXIS)
    threshold = tl.load(side.thresholds + own.anchors, mask=inside, other=0.0)
    sign, _ = terms.numbers
    x = tl.where(taken, sign * (logits - tl.expand_dims(threshold, AXIS)), MINUS_INFINITY)
    value = terms.form.value(x)
    above = tl.where(value > 0.0, 1.0, 0.0)
    slope = above
    planes = (value, above)
    if terms.MAXIMA or not terms.form.COUNTS:
        slope = terms.form.slope(x)  # maxima keep x as it is: one register a score, not two
    if side.weights is not None and not terms.form.COUNTS:
        planes = appended(planes, slope)
    if terms.MAXIMA:
        planes = appended(planes, x)
    return planes, slope


@triton.jit
def weighted(side, slope, own, AXIS: tl.constexpr):
    """The weights of the scores: slopes times the weight of their anchor; 0 where anchors have none."""
    w = tl.zeros_like(slope)
    if side.weights is not None:
        weight = tl.load(side.weights + own.anchors, mask=own.anchors < own.stop, other=0.0)
        w = slope * tl.expand_dims(weight, AXIS)
    return w


@triton.jit
def half_of_rows(x):
    """Sums of rows that are 8 apart, which one thread holds."""
    ROWS: tl.constexpr = x.shape[0]
    COLUMNS: tl.constexpr = x.shape[1]
    pairs = tl.reshape(x, (ROWS // 16, 2, 8, COLUMNS))
    return tl.reshape(tl.sum(pairs, 1), (ROWS // 2, COLUMNS))


@triton.jit
def halved(planes):
    """Half as many rows of every plane."""
    result = ()
    for i in tl.static_range(len(planes)):
        result = appended(result, half_of_rows(planes[i]))
    return result


@triton.jit
def penalty_part(terms, scores, taken, rows, columns, found, WEIGHTED: tl.constexpr):
    """``phi(sign * (scale * score - threshold))`` of both sides; returns d(total)/d(score) and what is to report.

    That is planes of the rows, planes of the columns of every part, and the scale's share.
    """
    sign, _ = terms.numbers
    logits = scores if terms.scale is None else scores * tl.load(terms.scale)
    of_rows, of_columns, shares = (), (), ()
    if len(found) > 0:
        of_rows, of_columns, shares = found
    w = tl.zeros_like(scores)
    if terms.rows.thresholds is not None:
        planes, slope = planes_of(terms.rows, terms, scores, logits, taken, rows, 1)
        if terms.TOGETHER:
            of_rows = added(of_rows, planes)
        else:
            report(terms, terms.rows, planes, rows, columns, 1)
        w += weighted(terms.rows, slope, rows, 1)
    if terms.columns.thresholds is not None:
        planes, slope = planes_of(terms.columns, terms, scores, logits, taken, columns, 0)
        if terms.columns.partials is not None:
            if terms.TOGETHER:
                of_columns = of_columns + halved(planes)
            else:
                report(terms, terms.columns, planes, columns, rows, 0)
        w += weighted(terms.columns, slope, columns, 0)
    w *= sign
    if WEIGHTED and terms.scale is not None:
        shares = added(shares, (w * scores,))
        w *= tl.load(terms.scale)
    return w, (of_rows, of_columns, shares)


@triton.jit
def report(terms, side, planes, own, other, AXIS: tl.constexpr):
    """Reduce the planes of one side, and report them; two planes at once where that saves registers."""
    place = side.partials + other.block.to(tl.int64) * side.width + (own.anchors - own.start)
    if len(planes) == 2 and (AXIS == 1 or terms.TOGETHER):
        both = tl.split(tl.sum(tl.join(planes[0], planes[1]), AXIS))
        tl.store(place, both[0])
        tl.store(place + other.blocks.to(tl.int64) * side.width, both[1])
    else:
        for i in tl.static_range(len(planes)):
            if terms.MAXIMA and i == len(planes) - 1:
                result = tl.max(planes[i], AXIS)
            else:
                result = tl.sum(planes[i], AXIS)
            tl.store(place + i * other.blocks.to(tl.int64) * side.width, result)


@triton.jit
def report_penalties(terms, found, rows, columns):
    """Report what the parts of a tile have left to report."""
    of_rows, of_columns, shares = found
    if len(of_rows) > 0:
        report(terms, terms.rows, of_rows, rows, columns, 1)
    if len(of_columns) > 0:
        planes = ()
        COUNT: tl.constexpr = len(of_columns) // 4
        for i in tl.static_range(COUNT):
            left = of_columns[i], of_columns[COUNT + i]
            right = of_columns[2 * COUNT + i], of_columns[3 * COUNT + i]
            planes = appended(planes, whole(left, right))
        report(terms, terms.columns, planes, columns, rows, 0)
    if len(shares) > 0:
        tl.store(terms.shares + tl.program_id(0), tl.sum(shares[0]))
