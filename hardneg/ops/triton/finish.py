"""The last step of a gradient: from summed products to the gradient of the embeddings themselves, in their type."""

from __future__ import annotations

import triton
import triton.language as tl
from torch import Tensor

from hardneg.ops.triton.arguments import Side
from hardneg.ops.triton.launch import architecture, blocks_of, launch
from hardneg.ops.triton.operands import Operands
from hardneg.ops.triton.rounding import rounded
from hardneg.ops.triton.tuning import configuration

__all__ = ["finish"]


@triton.jit(do_not_specialize=["count"])
def finish_kernel(
    products, own, pulls, gain, gradient, count, NORMALISED: tl.constexpr, WIDTH: tl.constexpr, tile
):
    """A block of rows: project out what changes only their length, or pull by the sum of the weights.

    ``own.terms`` are 1 / length. ``NORMALISED``: products are those of unit rows, so they still lack that factor; else
    the weights carried it. ``gradient`` may be ``products`` itself: a program has read its rows before.
    """
    rows = tl.program_id(0) * tile.ROWS + tl.arange(0, tile.ROWS)
    here = rows < count
    depth = tl.arange(0, tile.DEPTH)
    source = products + rows.to(tl.int64)[:, None] * WIDTH
    target = gradient + rows.to(tl.int64)[:, None] * WIDTH
    place = own.x + rows.to(tl.int64)[:, None] * own.stride
    factor = tl.zeros((tile.ROWS,), tl.float32) + 1.0
    along = tl.zeros((tile.ROWS,), tl.float32)
    length = tl.zeros((tile.ROWS,), tl.float32) + 1.0
    if own.terms is not None:
        length = tl.load(own.terms + rows, mask=here, other=0.0)
        total = tl.zeros((tile.ROWS, tile.DEPTH), tl.float32)
        for start in range(0, WIDTH, tile.DEPTH):
            inside = here[:, None] & (depth[None] < WIDTH - start)
            block = tl.load(place + start + depth[None], mask=inside, other=0.0).to(tl.float32)
            block = block * length[:, None] if NORMALISED else block
            total += block * tl.load(source + start + depth[None], mask=inside, other=0.0)
        along = tl.sum(total, 1)
        if NORMALISED:
            factor = length
        else:
            along = along * length * length
    elif pulls is not None:
        along = tl.load(pulls + rows, mask=here, other=0.0)
    if gain is not None:
        factor = factor / tl.load(gain)
    for start in range(0, WIDTH, tile.DEPTH):
        inside = here[:, None] & (depth[None] < WIDTH - start)
        value = tl.load(source + start + depth[None], mask=inside, other=0.0)
        if own.terms is not None or pulls is not None:
            block = tl.load(place + start + depth[None], mask=inside, other=0.0).to(tl.float32)
            block = block * length[:, None] if NORMALISED else block
            value -= along[:, None] * block
        value = rounded(value * factor[:, None], gradient.dtype.element_ty)
        tl.store(target + start + depth[None], value, mask=inside)


def finish(
    ready: Operands,
    products: Tensor,
    own: Side,
    pulls: Tensor | None,
    gain: Tensor | None,
    gradient: Tensor,
) -> None:
    """Write the gradient of some rows; nothing is to do where it already is the sum of products."""
    through = own.terms is not None or pulls is not None or gain is not None
    if not through and gradient.data_ptr() == products.data_ptr():
        return
    chosen = configuration("rows", "rows", architecture(products.device))
    given = products, own, pulls, gain, gradient, len(products)
    grid = (blocks_of(chosen.rows, len(products)),)
    normalised = ready.source in ("given", "product32")
    launch(finish_kernel, grid, chosen, *given, NORMALISED=normalised, WIDTH=ready.shape[2])
