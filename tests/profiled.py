"""What an operation did inside PyTorch: products of matrices, and the largest tensor. Shared by several test files."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

from torch.profiler import ProfilerActivity, profile

FACTORS = {"aten::mm": (0, 1), "aten::addmm": (1, 2), "aten::addmm_": (1, 2), "aten::bmm": (0, 1)}


def inputs(work: Callable[[], object]) -> Iterator[tuple[str, list[list[int]]]]:
    """The name and the shapes of the inputs of every operator that ``work`` runs, however deep inside."""
    with profile(
        activities=[ProfilerActivity.CPU], record_shapes=True, acc_events=True
    ) as profiler:
        work()
    for event in profiler.events():
        yield event.name, [[int(size) for size in shape] for shape in event.input_shapes if shape]


def products(work: Callable[[], object]) -> int:
    """Multiplications in products of matrices."""
    total = 0
    for name, shapes in inputs(work):
        if name in FACTORS:
            left, right = (shapes[place] for place in FACTORS[name])
            total += math.prod(left) * right[-1]
    return total


def largest(work: Callable[[], object]) -> int:
    """Elements of the largest tensor that any operator was given."""
    return max(math.prod(shape) for _, shapes in inputs(work) for shape in shapes)
