"""From packed keys to the indices that ``select`` returns, with the fallback of anchors that found nothing."""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from hardneg.ops.triton.keys import index_of
from hardneg.ops.triton.launch import blocks_of, launch
from hardneg.ops.triton.tuning import Configuration

__all__ = ["settled"]

BLOCK = Configuration(256, 1, 1, 4, 1)


@triton.jit(do_not_specialize=["count"])
def settle_kernel(
    keys, key_stride, rescue, indices, count, SKIP: tl.constexpr, PLACES: tl.constexpr, tile
):
    """Indices of the keys from place ``SKIP`` on; the rescue's where the first of them is none."""
    anchors = tl.program_id(0) * tile.ROWS + tl.arange(0, tile.ROWS)
    inside = anchors < count
    anchor = anchors.to(tl.int64)
    for place in tl.static_range(PLACES):
        key = tl.load(keys + anchor * key_stride + SKIP + place, mask=inside, other=0)
        index = index_of(key)
        if rescue is not None and place == 0:
            other = index_of(tl.load(rescue + anchor, mask=inside, other=0))
            index = tl.where(index < 0, other, index)
        tl.store(indices + anchor * PLACES + place, index, mask=inside)


def settled(keys: Tensor, rescue: Tensor | None = None, skip: int = 0) -> Tensor:
    """Indices (n x (k - skip)) of keys sorted highest first (n x k); ``rescue``: one further key an anchor."""
    count, k = keys.shape
    indices = torch.empty(count, k - skip, dtype=torch.int64, device=keys.device)
    grid = (blocks_of(BLOCK.rows, count),)
    given = keys, keys.stride(0), rescue, indices, count
    launch(settle_kernel, grid, BLOCK, *given, SKIP=skip, PLACES=k - skip)
    return indices
