"""Lengths of embeddings: squared, inverse, and the embeddings divided by them, one launch a side."""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from hardneg.ops.triton.arguments import BEYOND
from hardneg.ops.triton.launch import architecture, launch
from hardneg.ops.triton.rounding import tf32
from hardneg.ops.triton.tuning import configuration

__all__ = ["inverse_lengths", "squared_lengths", "unit_rows"]


@triton.jit(do_not_specialize=["count"])
def lengths_kernel(
    x, stride, squares, inverses, units, count, WIDTH: tl.constexpr, TF32: tl.constexpr, tile
):
    """Squared lengths, or inverse lengths and the unit rows (rounded to ``TF32``), of a block of rows."""
    rows = tl.program_id(0) * tile.ROWS + tl.arange(0, tile.ROWS)
    here = rows < count
    depth = tl.arange(0, tile.DEPTH)
    place = x + rows.to(tl.int64)[:, None] * stride
    # the largest entry goes first, so that squares of huge and tiny rows stay in range
    largest = tl.zeros((tile.ROWS,), tl.float32)
    if inverses is not None:
        for start in range(0, WIDTH, tile.DEPTH):
            inside = here[:, None] & (depth[None] < WIDTH - start)
            block = tl.load(place + start + depth[None], mask=inside, other=0.0).to(tl.float32)
            largest = tl.maximum(largest, tl.max(tl.abs(block), 1))
    divisor = tl.where(largest > 0, largest, 1.0)
    total = tl.zeros((tile.ROWS, tile.DEPTH), tl.float32)
    for start in range(0, WIDTH, tile.DEPTH):
        inside = here[:, None] & (depth[None] < WIDTH - start)
        block = tl.load(place + start + depth[None], mask=inside, other=0.0).to(tl.float32)
        block = block / divisor[:, None]
        total += block * block
    square = tl.sum(total, 1)
    if squares is not None:
        tl.store(squares + rows, square)
    if inverses is not None:
        length = tl.where(largest > 0, tl.sqrt_rn(square), 1.0)
        # 1 / (the smallest of floats) is beyond the largest
        inverse = tl.minimum(1.0 / length / divisor, 3.4028234663852886e38)
        tl.store(inverses + rows, tl.where(largest > 0, inverse, 0.0))
        if units is not None:
            out = units + rows.to(tl.int64)[:, None] * WIDTH
            for start in range(0, WIDTH, tile.DEPTH):
                inside = here[:, None] & (depth[None] < WIDTH - start)
                block = tl.load(place + start + depth[None], mask=inside, other=0.0)
                block = block.to(tl.float32) / divisor[:, None] / length[:, None]
                block = tf32(block) if TF32 else block
                tl.store(out + start + depth[None], block, mask=inside)


def measure(
    x: Tensor,
    squares: Tensor | None,
    inverses: Tensor | None,
    units: Tensor | None,
    nearest: bool = False,
) -> None:
    """Run the kernel over all rows and ``BEYOND`` more; the last dimension of ``x`` must be contiguous."""
    chosen = configuration("rows", "rows", architecture(x.device))
    grid = ((x.shape[0] + BEYOND) // chosen.rows,)
    given = x, x.stride(0), squares, inverses, units, x.shape[0]
    launch(lengths_kernel, grid, chosen, *given, WIDTH=x.shape[1], TF32=nearest)


def one_a_row(x: Tensor) -> Tensor:
    """Room for a number of every row, and of those beyond the last that a tile covers: there it is 0."""
    return torch.empty(len(x) + BEYOND, dtype=torch.float32, device=x.device)


def squared_lengths(x: Tensor) -> Tensor:
    """The squared L2 norm of every row, float32."""
    squares = one_a_row(x)
    measure(x, squares, None, None)
    return squares[: len(x)]


def inverse_lengths(x: Tensor) -> Tensor:
    """1 / L2 norm of every row, float32; 0 for a zero row."""
    inverses = one_a_row(x)
    measure(x, None, inverses, None)
    return inverses[: len(x)]


def unit_rows(x: Tensor, nearest: bool = False) -> tuple[Tensor, Tensor]:
    """Every row divided by its L2 norm, float32 or its ``nearest`` tf32, and 1 / norm; both are 0 for a zero row."""
    inverses = one_a_row(x)
    units = torch.empty(x.shape, dtype=torch.float32, device=x.device)
    measure(x, None, inverses, units, nearest)
    return units, inverses[: len(x)]
