"""The interpreter that does things once rebinds Triton's language for every launch."""

from __future__ import annotations

import pytest
import torch
import triton
import triton.language as tl


@triton.jit
def halves(x):
    """An inner function, which is rebound on its own, as those of Triton's are."""
    return tl.sum(x.to(tl.float32).to(tl.float16)) / 2


@triton.jit
def kernel(x_of, total_of, LIMIT: tl.constexpr):
    x = tl.load(x_of + tl.arange(0, 4))
    tl.static_assert(LIMIT > 0)
    tl.store(total_of, halves(x) + tl.max(x, 0))


def run(limit: int, dtype: torch.dtype) -> float:
    found = torch.zeros(1)
    kernel[(1,)](torch.tensor([1, 2, 3, 4], dtype=dtype), found, LIMIT=limit)
    return float(found)


@pytest.mark.parametrize("dtype", [torch.int32, torch.int8, torch.float32, torch.bfloat16], ids=str)
def test_every_launch_finds_the_language_rebound(dtype: torch.dtype) -> None:
    assert run(1, dtype) == run(2, dtype) == 9


def test_a_launch_after_one_that_failed_does_too() -> None:
    with pytest.raises(Exception, match="AssertionError"):
        run(0, torch.int32)
    assert run(1, torch.int32) == 9
