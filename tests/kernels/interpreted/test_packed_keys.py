"""Packed keys order as (score, then the smallest index) does, and give both back."""

from __future__ import annotations

import torch
import triton
import triton.language as tl

from hardneg.ops.triton.keys import NO_KEY, index_of, pack, raise_keys, value_of
from hardneg.ops.triton.launch import launch
from hardneg.ops.triton.tuning import Configuration

TINY, HUGE = 1e-45, 3.4028235e38
VALUES = [-HUGE, -1.5, -TINY, -0.0, 0.0, TINY, 1e-38, 1.0, 1.0000001, HUGE, float("inf")]
ONE = Configuration(1, 1, 1, 1, 1)


@triton.jit
def pack_kernel(values, indices, keys, values_again, indices_again, COUNT: tl.constexpr):
    """All three functions at once."""
    place = tl.arange(0, COUNT)
    key = pack(tl.load(values + place), tl.load(indices + place))
    tl.store(keys + place, key)
    tl.store(values_again + place, value_of(key))
    tl.store(indices_again + place, index_of(key))


@triton.jit
def raise_kernel(keys, values, COUNT: tl.constexpr, ROWS: tl.constexpr):
    """One program takes one block of columns of two rows, the last block first."""
    block = tl.num_programs(0) - 1 - tl.program_id(0)
    rows, columns = tl.arange(0, ROWS), block * COUNT + tl.arange(0, COUNT)
    width = tl.num_programs(0) * COUNT
    tile = tl.load(values + rows[:, None] * width + columns[None])
    raise_keys(keys, tile, rows, rows < ROWS, columns, 1)


def test_keys_order_by_score_then_by_smallest_index() -> None:
    pairs = [(v, i) for v in VALUES for i in (0, 1, 70000, 2**31 - 2)]
    pairs += [(0.0, 5)] * (-len(pairs) % 64)
    values = torch.tensor([v for v, _ in pairs])
    indices = torch.tensor([i for _, i in pairs], dtype=torch.int32)
    keys = torch.empty(len(pairs), dtype=torch.int64)
    found = torch.empty(len(pairs)), torch.empty(len(pairs), dtype=torch.int64)
    launch(pack_kernel, (1,), ONE, values, indices, keys, *found, COUNT=len(pairs))
    # equal values compare equal whatever their sign, so both zeros rank by index alone
    expected = sorted(range(len(pairs)), key=lambda p: (pairs[p][0], -pairs[p][1]))
    ranked = keys.tolist()
    assert [ranked[p] for p in expected] == sorted(ranked)
    assert torch.equal(found[0], values)
    assert torch.equal(found[1], indices.long())
    assert min(ranked) > NO_KEY


def test_the_order_of_programs_does_not_matter() -> None:
    """An equal score with a smaller index wins although it comes later; NO_KEY gives way to any score."""
    values = torch.zeros(2, 64)
    values[1] = -float("inf")
    values[1, 40] = -1e38
    keys = torch.full((2,), NO_KEY, dtype=torch.int64)
    launch(raise_kernel, (4,), ONE, keys, values, COUNT=16, ROWS=2)
    assert [0x7FFFFFFF - (key & 0x7FFFFFFF) for key in keys.tolist()] == [0, 40]
