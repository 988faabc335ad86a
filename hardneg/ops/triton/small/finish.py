"""The launch of the backward pass: from products to the gradients of the embeddings of both sides, in their type."""

from __future__ import annotations

from typing import Any, NamedTuple

import triton
import triton.language as tl
from torch import Tensor

from hardneg.ops.triton.launch import architecture, blocks_of, launch
from hardneg.ops.triton.rounding import rounded
from hardneg.ops.triton.small.arguments import (
    FACTOR,
    FIRST_OF_CANDIDATES,
    OF_CANDIDATES,
    OF_QUERIES,
    PULL,
    Planes,
)
from hardneg.ops.triton.small.planes import number_of_loss, place_of
from hardneg.ops.triton.tuning import configuration

__all__ = ["Finished", "finish"]


class Finished(NamedTuple):
    """One side inside the kernel; see ``RowsOfSide``.

    Attributes:
        x, stride, factors, shrinks: the embeddings.
        products: the matrix of derivatives times the other side's rows.
        gradient: where the gradient goes; None for a frozen side.
        NORMALISED: whether scores are cosines.
        ONE_SET: whether both sides are one tensor, and the products those of both.
        WIDTH: how many coordinates an embedding has.
    """

    x: Tensor
    stride: int
    factors: Tensor | None
    shrinks: Tensor
    products: Tensor | None
    gradient: Tensor | None
    NORMALISED: Any
    ONE_SET: Any
    WIDTH: Any


@triton.jit
def partner_pull(planes, rows, paired):
    """The derivative by the score of a row with its partner, as ``weights_kernel`` scales it, but for the sign."""
    pull = tl.zeros_like(rows).to(tl.float32)
    if planes.QUERIES:
        of_query = tl.load(place_of(planes, PULL, rows), mask=paired, other=0.0)
        pull += of_query * number_of_loss(planes, OF_QUERIES)
    if planes.CANDIDATES:
        place = place_of(planes, FIRST_OF_CANDIDATES + PULL, rows)
        of_candidate = tl.load(place, mask=paired, other=0.0)
        pull += of_candidate * number_of_loss(planes, OF_CANDIDATES)
    return pull * planes.gain


@triton.jit
def finish_side(side, other, planes, upstream, block, count, pairs, tile):
    """A block of rows: what pulls each, less what lies along it."""
    rows = block * tile.ROWS + tl.arange(0, tile.ROWS)
    here, paired = rows < count, rows < pairs
    depth = tl.arange(0, tile.DEPTH)
    own = side.x + rows.to(tl.int64)[:, None] * side.stride
    partner = other.x + rows.to(tl.int64)[:, None] * other.stride
    source = side.products + rows.to(tl.int64)[:, None] * side.WIDTH
    pull = partner_pull(planes, rows, paired)
    if side.ONE_SET:
        pull *= 2.0
    shrink = tl.full((tile.ROWS,), 1.0, tl.float32)
    of_partner = shrink
    square = tl.full((tile.ROWS,), 1.0, tl.float32)
    if side.NORMALISED:
        shrink = tl.load(side.shrinks + rows, mask=here, other=0.0)
        of_partner = tl.load(other.shrinks + rows, mask=paired, other=0.0)
        if side.factors is not None:
            factor = tl.load(side.factors + rows, mask=here, other=0.0)
            pull *= factor * tl.load(other.factors + rows, mask=paired, other=0.0)
            square = factor * factor
    along = tl.zeros((tile.ROWS,), tl.float32)
    if side.NORMALISED:
        total = tl.zeros((tile.ROWS, tile.DEPTH), tl.float32)
        for start in range(0, side.WIDTH, tile.DEPTH):
            within = depth[None] < side.WIDTH - start
            inside = here[:, None] & within
            x = tl.load(own + start + depth[None], mask=inside, other=0.0).to(tl.float32)
            y = tl.load(partner + start + depth[None], mask=paired[:, None] & within, other=0.0)
            value = tl.load(source + start + depth[None], mask=inside, other=0.0)
            value -= y.to(tl.float32) * of_partner[:, None] * pull[:, None]
            total += x * shrink[:, None] * value
        along = tl.sum(total, 1) * square
    factor = shrink * number_of_loss(planes, FACTOR) * tl.load(upstream)
    target = side.gradient + rows.to(tl.int64)[:, None] * side.WIDTH
    for start in range(0, side.WIDTH, tile.DEPTH):
        within = depth[None] < side.WIDTH - start
        inside = here[:, None] & within
        y = tl.load(partner + start + depth[None], mask=paired[:, None] & within, other=0.0)
        value = tl.load(source + start + depth[None], mask=inside, other=0.0)
        value -= y.to(tl.float32) * of_partner[:, None] * pull[:, None]
        if side.NORMALISED:
            x = tl.load(own + start + depth[None], mask=inside, other=0.0).to(tl.float32)
            value -= x * shrink[:, None] * along[:, None]
        value = rounded(value * factor[:, None], side.gradient.dtype.element_ty)
        tl.store(target + start + depth[None], value, mask=inside)


@triton.jit(do_not_specialize=["row_blocks", "row_count", "column_count"])
def finish_kernel(
    queries,
    candidates,
    planes,
    upstream,
    row_blocks,
    row_count,
    column_count,
    tile,
):
    """Blocks of the queries, then blocks of the candidates; none of a frozen side."""
    block = tl.program_id(0)
    if queries.gradient is not None and block < row_blocks:
        finish_side(queries, candidates, planes, upstream, block, row_count, row_count, tile)
    if candidates.gradient is not None and block >= row_blocks:
        block -= row_blocks
        finish_side(candidates, queries, planes, upstream, block, column_count, row_count, tile)


def finish(sides: tuple[Finished, Finished], planes: Planes, upstream: Tensor) -> None:
    """Write the gradients of the sides that want one."""
    n, m = sides[0].x.shape[0], sides[1].x.shape[0]
    chosen = configuration("rows", "rows", architecture(upstream.device))
    blocks, more = (
        0 if side.gradient is None else blocks_of(chosen.rows, side.x.shape[0]) for side in sides
    )
    launch(finish_kernel, (blocks + more,), chosen, *sides, planes, upstream, blocks, n, m)
