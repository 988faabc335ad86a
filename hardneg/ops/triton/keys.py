"""Packed keys: a score and the index it belongs to in one integer, so that one atomic maximum keeps both.

The high half orders as the score does, the low half falls as the index rises: the larger key has
the higher score, and among equals the smaller index. Integer maxima do not depend on the order in which
programs finish, so results are the same bit for bit.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

__all__ = ["NO_KEY", "floors", "index_of", "no_keys", "ordered", "pack", "raise_keys", "value_of"]

LOW_HALF = tl.constexpr(0x7FFFFFFF)
INFINITY = tl.constexpr(float("inf"))
MINUS_INFINITY = tl.constexpr(float("-inf"))

NO_KEY = -2139095041 << 32
"""Below the key of every score: that of -inf, with the largest of indices."""


def no_keys(*shape: int, device: torch.device) -> Tensor:
    """Keys of anchors that have found nothing yet."""
    return torch.full(shape, NO_KEY, dtype=torch.int64, device=device)


@triton.jit
def ordered(value):
    """An int32 for each float32 that orders as it does; NaN anywhere."""
    # adding 0 makes the two zeros one
    bits = (value + 0.0).to(tl.int32, bitcast=True)
    return bits ^ ((bits >> 31) & LOW_HALF)


@triton.jit
def pack(value, index):
    """The key of a score and an index below 2**31 - 1."""
    return (ordered(value).to(tl.int64) << 32) | (index ^ LOW_HALF).to(tl.int64)


@triton.jit
def value_of(key):
    """The score in a key."""
    high = (key >> 32).to(tl.int32)
    return (high ^ ((high >> 31) & LOW_HALF)).to(tl.float32, bitcast=True)


@triton.jit
def index_of(key):
    """The index in a key, as int64; -1 where nothing was found."""
    index = (key & LOW_HALF) ^ LOW_HALF
    return tl.where(value_of(key) > MINUS_INFINITY, index, -1)


@triton.jit
def floors(keys, anchors, inside):
    """The scores that anchors have found so far: -inf for nothing, inf for those outside, which nothing reaches.

    Read past the first cache, which does not hear of other programs' atomics. What is read may be out of date all
    the same, but keys only rise, so an outdated one only lets through an atomic that changes nothing.
    """
    found = value_of(tl.load(keys + anchors, cache_modifier=".cg"))
    return tl.where(inside, found, INFINITY)


@triton.jit
def raise_keys(keys, values, anchors, inside, others, AXIS: tl.constexpr):
    """Raise the keys of a tile's anchors to the highest of its values along ``AXIS``; -inf never counts.

    Whether any value reaches what its anchor has found is asked first, and an equal one does: its index may be the
    smaller. Only then are values reduced and indices sought.
    """
    floor = floors(keys, anchors, inside)
    reaches = (values >= tl.expand_dims(floor, AXIS)) & (values > MINUS_INFINITY)
    if tl.max(reaches.to(tl.int32)) > 0:
        best = tl.max(values, AXIS)
        is_best = values == tl.expand_dims(best, AXIS)
        index = tl.min(tl.where(is_best, tl.expand_dims(others, 1 - AXIS), LOW_HALF - 1), AXIS)
        better = (best >= floor) & (best > MINUS_INFINITY)
        tl.atomic_max(keys + anchors, pack(best, index), mask=better, sem="relaxed")
