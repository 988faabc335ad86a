"""From the weight of every score of a tile to what the gradient's products are fed: ``store_weights``."""

from __future__ import annotations

import triton
import triton.language as tl

from hardneg.ops.triton.rounding import rounded

__all__ = ["store_weights"]

LARGEST_HALF = tl.constexpr(65504.0)


@triton.jit
def through_similarity(
    w, scores, row_terms, column_terms, rows, columns, height, width, SIMILARITY
):
    """Weights of scores turned into weights of the embeddings' products or differences."""
    if SIMILARITY == "cosine":
        w *= tl.load(row_terms + rows, mask=height, other=0.0)[:, None]
        w *= tl.load(column_terms + columns, mask=width, other=0.0)[None]
    elif SIMILARITY == "squared_euclidean":
        w *= 2.0
    elif SIMILARITY != "dot":  # scores are negated distances; equal points pass no gradient
        w = tl.where(scores < 0.0, w / tl.where(scores < 0.0, -scores, 1.0), 0.0)
    return w


@triton.jit
def store_weights(
    w,
    scores,
    row_terms,
    column_terms,
    rows,
    columns,
    row_start,
    row_stop,
    column_start,
    column_stop,
    row_block,
    column_block,
    weights,
    weights_stride,
    gain,
    row_pulls,
    row_width,
    column_pulls,
    column_width,
    SIMILARITY: tl.constexpr,
):
    """Write a tile into the panel of weights, and for distances the sums of its rows and columns.

    The sums are of the rounded weights: ``sum_j w_ij (c_j - q_i)`` then errs only as the weights do, however close
    the points are. ``gain`` keeps float16 weights in range.
    """
    height, width = rows < row_stop, columns < column_stop
    w = through_similarity(
        w, scores, row_terms, column_terms, rows, columns, height, width, SIMILARITY
    )
    if gain is not None:
        w = tl.minimum(tl.maximum(w * tl.load(gain), -LARGEST_HALF), LARGEST_HALF)
    short = rounded(w, weights.dtype.element_ty)
    own_row, own_column = rows - row_start, columns - column_start
    place = own_row[:, None] * weights_stride + own_column[None]  # panels are small
    tl.store(weights + place, short, mask=height[:, None] & width[None])
    if row_pulls is not None:
        w = tl.where(height[:, None] & width[None], short.to(tl.float32), 0.0)
        own_place = column_block.to(tl.int64) * row_width + own_row
        tl.store(row_pulls + own_place, tl.sum(w, 1), mask=height)
        own_place = row_block.to(tl.int64) * column_width + own_column
        tl.store(column_pulls + own_place, tl.sum(w, 0), mask=width)
