"""From the weight of every score of a tile to what the gradient's products are fed: ``store_weights``."""

from __future__ import annotations

import triton
import triton.language as tl

from hardneg.ops.triton.rounding import rounded

__all__ = ["store_weights"]

LARGEST_HALF = tl.constexpr(65504.0)


@triton.jit
def store_weights(weights, panel, w, scores, rows, columns):
    """Write a tile into the panel of weights, and for distances the sums of its rows and columns.

    The sums are of the rounded weights: ``sum_j w_ij (c_j - q_i)`` then errs only as the weights do, however close
    the points are. The gain keeps float16 weights in range.
    """
    height, width = rows.anchors < rows.stop, columns.anchors < columns.stop
    w = panel.similarity.pull(w, scores)
    if panel.similarity.NORMALISED:
        w *= tl.load(panel.queries.terms + rows.anchors)[:, None]
        w *= tl.load(panel.candidates.terms + columns.anchors)[None]
    if weights.gain is not None:
        w = tl.minimum(tl.maximum(w * tl.load(weights.gain), -LARGEST_HALF), LARGEST_HALF)
    short = rounded(w, weights.x.dtype.element_ty)
    own_row, own_column = rows.anchors - rows.start, columns.anchors - columns.start
    place = own_row[:, None] * weights.stride + own_column[None]  # panels are small
    tl.store(weights.x + place, short)
    if weights.row_pulls is not None:
        w = tl.where(height[:, None] & width[None], short.to(tl.float32), 0.0)
        own_place = columns.block.to(tl.int64) * weights.row_width + own_row
        tl.store(weights.row_pulls + own_place, tl.sum(w, 1))
        own_place = rows.block.to(tl.int64) * weights.column_width + own_column
        tl.store(weights.column_pulls + own_place, tl.sum(w, 0))
