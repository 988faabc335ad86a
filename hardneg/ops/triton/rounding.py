"""Rounding to the type of a result, alike on a GPU and in the interpreter; and float32 numbers to fewer bits."""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from hardneg.ops.triton.launch import INTERPRETED

__all__ = ["as_tf32", "in_parts", "rounded", "tf32"]

BY_HAND = tl.constexpr(INTERPRETED)
"""A GPU rounds to the nearest bfloat16, the interpreter of Triton 3.6 to 3.9 cuts the digits off."""


@triton.jit
def rounded(x, TYPE: tl.constexpr):
    """The float32 x as ``TYPE``, to the nearest, ties to even."""
    by_hand: tl.constexpr = BY_HAND and TYPE is tl.bfloat16
    if by_hand:
        bits = x.to(tl.uint32, bitcast=True)
        bits = (bits + 0x7FFF + ((bits >> 16) & 1)) & 0xFFFF0000
        x = bits.to(tl.float32, bitcast=True)
    return x.to(TYPE)


@triton.jit
def tf32(x):
    """The nearest number of ten digits after the first, halves away from 0: tensor cores cut off what is below.

    NaN may become 0: losses of what is not finite are NaN by themselves.
    """
    bits = (x.to(tl.uint32, bitcast=True) + 0x1000) & 0xFFFFE000
    return bits.to(tl.float32, bitcast=True)


def as_tf32(x: Tensor) -> Tensor:
    """A copy of these numbers; NaN stays NaN."""
    bits = x.contiguous().view(torch.int32) + 0x1000
    return torch.where(x.isnan(), x, bits.bitwise_and_(-0x2000).view(torch.float32))


def in_parts(x: Tensor, order: tuple[int, int, int]) -> Tensor:
    """Rows as sums of two bfloat16 numbers a coordinate, h (0) and l (1), in this order side by side."""
    out = torch.empty(len(x), 3, x.shape[1], dtype=torch.bfloat16, device=x.device)
    high, low, again = out[:, 0], out[:, order.index(1)], out[:, order.index(0, 1)]
    high.copy_(x)
    torch.sub(x, high, out=low)
    again.copy_(high)
    return out.flatten(1)
