"""Lists of tensors that a kernel carries from one part of a tile to the next: tuples, which grow or are added up."""

from __future__ import annotations

import triton
import triton.language as tl

__all__ = ["added", "appended"]


@triton.jit
def appended(earlier, one):
    """A list with one more."""
    return earlier + (one,)  # noqa: RUF005 -- kernels have no starred tuples


@triton.jit
def added(earlier, more):
    """The sums of two lists, entry by entry; ``more`` where nothing came earlier."""
    result = more
    if len(earlier) > 0:
        result = ()
        for i in tl.static_range(len(more)):
            result = appended(result, earlier[i] + more[i])
    return result
