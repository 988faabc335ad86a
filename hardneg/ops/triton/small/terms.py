"""One launch from the matrix of products to the terms of the anchors of both sides."""

from __future__ import annotations

from typing import Any

import triton
import triton.language as tl

from hardneg.ops.triton.arguments import EXTENT, Extent, Relation
from hardneg.ops.triton.launch import architecture, blocks_of, launch
from hardneg.ops.triton.small.arguments import (
    COUNT,
    FIRST_OF_CANDIDATES,
    KEPT,
    LARGEST,
    PULL,
    SHARE,
    VALUE,
    Equation,
    Planes,
    Products,
)
from hardneg.ops.triton.small.planes import place_of
from hardneg.ops.triton.small.scores import anchors_of
from hardneg.ops.triton.tuning import configuration

__all__ = ["terms"]


@triton.jit
def reduce_block(
    products, extent, relation, equation, planes, first, block, others, AXIS: tl.constexpr, tile
):
    """Write the numbers of a block of anchors, whose planes begin with number ``first``."""
    numbers = block * tile.ROWS + tl.arange(0, tile.ROWS)
    anchors = anchors_of(products, extent, relation, equation, numbers)
    value, count, pull, largest, kept, share = equation.reduce(
        products, extent, relation, equation, anchors, others, AXIS, tile
    )
    tl.store(place_of(planes, first + VALUE, numbers), value, mask=anchors.inside)
    tl.store(place_of(planes, first + COUNT, numbers), count, mask=anchors.inside)
    tl.store(place_of(planes, first + PULL, numbers), pull, mask=anchors.inside)
    tl.store(place_of(planes, first + LARGEST, numbers), largest, mask=anchors.inside)
    tl.store(place_of(planes, first + KEPT, numbers), kept, mask=anchors.inside)
    tl.store(place_of(planes, first + SHARE, numbers), share, mask=anchors.inside)


@triton.jit(do_not_specialize=[*EXTENT, "row_blocks"])
def terms_kernel(
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
    row_blocks,
    tile,
):
    """Blocks of queries as anchors, each against all candidates, then blocks of candidates, each against all queries.

    ``equation.reduce`` returns of every anchor: value, count, pull, largest slope, what is kept for the slopes, and
    the slope by the scale.
    """
    extent = Extent(row_start, row_stop, column_start, column_stop, row_offset, column_offset)
    block = tl.program_id(0)
    if planes.QUERIES and block < row_blocks:
        first, others = 0, column_stop
        reduce_block(products, extent, relation, equation, planes, first, block, others, 1, tile)
    if planes.CANDIDATES and block >= row_blocks:
        first, others = FIRST_OF_CANDIDATES, row_stop
        block -= row_blocks
        reduce_block(products, extent, relation, equation, planes, first, block, others, 0, tile)


def terms(
    products: Products, extent: Extent, relation: Relation, equation: Equation, planes: Planes
) -> None:
    """Fill the planes."""
    chosen = configuration("terms", "given", architecture(products.x.device))
    blocks = blocks_of(chosen.rows, extent.row_stop)
    of_queries, of_candidates = (
        blocks if side.value else 0 for side in (planes.QUERIES, planes.CANDIDATES)
    )
    given: tuple[Any, ...] = products, *extent, relation, equation, planes, of_queries
    launch(terms_kernel, (of_queries + of_candidates,), chosen, *given)
