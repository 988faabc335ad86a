"""Rounding to the type of a result, alike on a GPU and in the interpreter."""

from __future__ import annotations

import triton
import triton.language as tl

from hardneg.ops.triton.launch import INTERPRETED

__all__ = ["rounded"]

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
