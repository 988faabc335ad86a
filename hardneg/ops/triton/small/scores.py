"""Blocks of the matrix of scores, and the anchors of a block."""

from __future__ import annotations

import triton
import triton.language as tl

from hardneg.ops.triton.admission import admitted
from hardneg.ops.triton.small.arguments import Anchors

__all__ = ["anchors_of", "blank", "logits_of", "scores_of", "taken_scores"]


@triton.jit
def scores_of(products, extent, rows, columns):
    """Scores of rows against columns, 0 where there are none."""
    height, width = rows < extent.row_stop, columns < extent.column_stop
    # small: 32-bit places take half the registers
    place = products.x + rows[:, None] * products.stride + columns[None]
    scores = tl.load(place, mask=height[:, None] & width[None], other=0.0)
    if products.row_factors is not None:
        scores *= tl.load(products.row_factors + rows, mask=height, other=0.0)[:, None]
        scores *= tl.load(products.column_factors + columns, mask=width, other=0.0)[None]
    return scores


@triton.jit
def taken_scores(products, extent, relation, anchors, others, AXIS: tl.constexpr):
    """Scores of anchors against others, and which of them take part."""
    if AXIS == 1:
        rows, columns = anchors.numbers, others
    else:
        rows, columns = others, anchors.numbers
    scores = scores_of(products, extent, rows, columns)
    return scores, admitted(extent, relation, rows, columns)


@triton.jit
def anchors_of(products, extent, relation, equation, numbers):
    """The anchors with these numbers: anchor i of either side belongs to the pair (i, i), a query's."""
    inside = numbers < extent.row_stop
    positives = tl.load(products.x + numbers * (products.stride + 1), mask=inside, other=0.0)
    if products.row_factors is not None:
        positives *= tl.load(products.row_factors + numbers, mask=inside, other=0.0)
        positives *= tl.load(products.column_factors + numbers, mask=inside, other=0.0)
    has = inside
    if relation.ignore.x is not None:
        place = numbers.to(tl.int64) * (relation.ignore.row_stride + relation.ignore.column_stride)
        has = has & (tl.load(relation.ignore.x + place, mask=inside, other=0) == 0)
    return Anchors(numbers, inside, has, positives, positives - equation.margin)


@triton.jit
def logits_of(equation, x):
    """Differences of scores times the scale."""
    if equation.scale is not None:
        logits = x * tl.load(equation.scale)
    else:
        logits = x * equation.factor
    return logits


@triton.jit
def blank(x, AXIS: tl.constexpr, tile):
    """A tile of one number, whose axis ``AXIS`` goes over the others."""
    if AXIS == 1:
        made = tl.full((tile.ROWS, tile.COLUMNS), x, tl.float32)
    else:
        made = tl.full((tile.COLUMNS, tile.ROWS), x, tl.float32)
    return made
