"""One launch from the matrix of products to that of the derivatives of the loss, in the type of the embeddings.

They are divided by what none of them exceeds, and multiplied by ``gain``, so that float16 has room for all. Positives
are left out: their derivatives are added to the gradients in float32.
"""

from __future__ import annotations

from typing import Any

import triton
import triton.language as tl
from torch import Tensor

from hardneg.ops.triton.admission import admitted
from hardneg.ops.triton.arguments import EXTENT, Extent, Relation
from hardneg.ops.triton.launch import architecture, blocks_of, launch
from hardneg.ops.triton.rounding import rounded
from hardneg.ops.triton.small.arguments import (
    FIRST_OF_CANDIDATES,
    KEPT,
    OF_CANDIDATES,
    OF_QUERIES,
    PULL,
    Equation,
    Planes,
    Products,
)
from hardneg.ops.triton.small.planes import number_of_loss, place_of
from hardneg.ops.triton.small.scores import scores_of
from hardneg.ops.triton.tuning import configuration

__all__ = ["weights"]


@triton.jit
def slopes_of(equation, planes, first, anchors, count, others, scores, taken, AXIS: tl.constexpr):
    """The derivatives of the terms of one direction's anchors."""
    inside = anchors < count
    pull = tl.load(place_of(planes, first + PULL, anchors), mask=inside, other=0.0)
    kept = tl.load(place_of(planes, first + KEPT, anchors), mask=inside, other=0.0)
    return equation.weigh(equation, scores, taken, others, pull, kept, AXIS)


@triton.jit(do_not_specialize=EXTENT)
def weights_kernel(
    products,
    row_start,
    row_stop,
    column_start,
    column_stop,
    row_offset,
    column_offset,
    relation,
    equation,
    planes,
    weights,
    stride,
    tile,
):
    """A tile of derivatives; ``weights`` may be the products themselves: all threads have read theirs by then."""
    extent = Extent(row_start, row_stop, column_start, column_stop, row_offset, column_offset)
    across = tl.cdiv(column_stop, tile.COLUMNS)
    rows = tl.program_id(0) // across * tile.ROWS + tl.arange(0, tile.ROWS)
    columns = tl.program_id(0) % across * tile.COLUMNS + tl.arange(0, tile.COLUMNS)
    scores = scores_of(products, extent, rows, columns)
    taken = admitted(extent, relation, rows, columns)
    w = tl.zeros_like(scores)
    if planes.QUERIES:
        slopes = slopes_of(equation, planes, 0, rows, row_stop, columns, scores, taken, 1)
        w += slopes * number_of_loss(planes, OF_QUERIES)
    if planes.CANDIDATES:
        first = FIRST_OF_CANDIDATES
        slopes = slopes_of(equation, planes, first, columns, row_stop, rows, scores, taken, 0)
        w += slopes * number_of_loss(planes, OF_CANDIDATES)
    height, width = rows < row_stop, columns < column_stop
    w *= planes.gain
    if products.row_factors is not None:
        w *= tl.load(products.row_factors + rows, mask=height, other=0.0)[:, None]
        w *= tl.load(products.column_factors + columns, mask=width, other=0.0)[None]
    tl.debug_barrier()
    place = weights + rows[:, None] * stride + columns[None]
    short = rounded(w, weights.dtype.element_ty)
    tl.store(place, short, mask=height[:, None] & width[None])


def weights(
    products: Products,
    extent: Extent,
    relation: Relation,
    equation: Equation,
    planes: Planes,
    out: Tensor,
) -> None:
    """Write the derivatives."""
    chosen = configuration("weights", "given", architecture(out.device))
    n, m = extent.row_stop, extent.column_stop
    grid = (blocks_of(chosen.rows, n) * blocks_of(chosen.columns, m),)
    given: tuple[Any, ...] = products, *extent, relation, equation, planes
    launch(weights_kernel, grid, chosen, *given, out, out.stride(0))
