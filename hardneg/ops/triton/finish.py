"""The last step of a gradient: from summed products to the gradient of the embeddings themselves, in their type."""

from __future__ import annotations

import triton
import triton.language as tl
from torch import Tensor

from hardneg.ops.triton.launch import architecture, launch
from hardneg.ops.triton.operands import Operands
from hardneg.ops.triton.rounding import rounded
from hardneg.ops.triton.tuning import configuration

__all__ = ["finish"]


@triton.jit
def finish_kernel(
    products,
    x,
    x_stride,
    inverse,
    pulls,
    gain,
    gradient,
    count,
    NORMALISED: tl.constexpr,
    WIDTH: tl.constexpr,
    BLOCK_ROWS: tl.constexpr,
    BLOCK_DEPTH: tl.constexpr,
):
    """A block of rows: project out what changes only their length, or pull by the sum of the weights.

    ``NORMALISED``: x are unit rows, so the products still lack the factor 1 / length; else the weights carried
    it, and x are the embeddings. ``gradient`` may be ``products`` itself: a program has read its rows before.
    """
    rows = tl.program_id(0) * BLOCK_ROWS + tl.arange(0, BLOCK_ROWS)
    here = rows < count
    depth = tl.arange(0, BLOCK_DEPTH)
    source = products + rows.to(tl.int64)[:, None] * WIDTH
    target = gradient + rows.to(tl.int64)[:, None] * WIDTH
    place = x + rows.to(tl.int64)[:, None] * x_stride
    factor = tl.zeros((BLOCK_ROWS,), tl.float32) + 1.0
    own = tl.zeros((BLOCK_ROWS,), tl.float32)
    if inverse is not None:
        total = tl.zeros((BLOCK_ROWS, BLOCK_DEPTH), tl.float32)
        for start in range(0, WIDTH, BLOCK_DEPTH):
            inside = here[:, None] & (depth[None] < WIDTH - start)
            block = tl.load(place + start + depth[None], mask=inside, other=0.0).to(tl.float32)
            total += block * tl.load(source + start + depth[None], mask=inside, other=0.0)
        own = tl.sum(total, 1)
        length = tl.load(inverse + rows, mask=here, other=0.0)
        if NORMALISED:
            factor = length
        else:
            own = own * length * length
    elif pulls is not None:
        own = tl.load(pulls + rows, mask=here, other=0.0)
    if gain is not None:
        factor = factor / tl.load(gain)
    for start in range(0, WIDTH, BLOCK_DEPTH):
        inside = here[:, None] & (depth[None] < WIDTH - start)
        value = tl.load(source + start + depth[None], mask=inside, other=0.0)
        if inverse is not None or pulls is not None:
            block = tl.load(place + start + depth[None], mask=inside, other=0.0).to(tl.float32)
            value -= own[:, None] * block
        value = rounded(value * factor[:, None], gradient.dtype.element_ty)
        tl.store(target + start + depth[None], value, mask=inside)


def finish(
    ready: Operands,
    products: Tensor,
    x: Tensor,
    inverse: Tensor | None,
    pulls: Tensor | None,
    gain: Tensor | None,
    gradient: Tensor,
) -> None:
    """Write the gradient of some rows; nothing is to do where it already is the sum of products."""
    through = inverse is not None or pulls is not None or gain is not None
    if not through and gradient.data_ptr() == products.data_ptr():
        return
    chosen = configuration("rows", "rows", architecture(x.device))
    arguments = {
        "products": products,
        "x": x,
        "x_stride": x.stride(0),
        "inverse": inverse,
        "pulls": pulls,
        "gain": gain,
        "gradient": gradient,
        "count": len(products),
        "NORMALISED": ready.source in ("given", "product32"),
        "WIDTH": ready.shape[2],
    }
    launch(finish_kernel, (triton.cdiv(len(products), chosen.rows),), arguments, chosen)
