"""How far a result may be off: from the roundings of its own computation, found by Monte Carlo arithmetic.

The definition is evaluated in float64 with a small random relative error in every operand and every result of
every operation (D. S. Parker, "Monte Carlo arithmetic", 1997). The change in the result, per unit of that error, is
what as many roundings of such sizes come to: it grows with the terms that are added, with the operands, and where they
cancel.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

__all__ = ["assert_rounded", "sensitivities"]

STEP = 2.0**-30
DRAWS = 4


def is_wide(x: Any) -> bool:
    """Whether it is a tensor that takes part in the arithmetic."""
    return isinstance(x, Tensor) and x.dtype == torch.float64


class Perturbed(TorchDispatchMode):
    """Every float64 operand and result is off by ``STEP`` times itself, up or down."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        self.generator = torch.Generator().manual_seed(seed)

    def off(self, x: Any) -> Any:
        """The same where it is no float64 tensor."""
        if not is_wide(x):
            return x
        signs = torch.randint(2, x.shape, generator=self.generator).double() * 2 - 1
        return x * (1 + STEP * signs)

    def __torch_dispatch__(self, operator: Any, types: Any, args: Any = (), kwargs: Any = None):
        kwargs = kwargs or {}
        result = operator(*args, **kwargs)
        named = *operator._schema.arguments, *operator._schema.returns
        aliased = any(x.alias_info is not None for x in named)  # views and writes in place
        if aliased or not any(map(is_wide, tree_leaves(result))):  # comparisons and indices
            return result
        return tree_map(self.off, operator(*tree_map(self.off, args), **kwargs))


def largest(x: Tensor) -> float:
    """The largest finite magnitude."""
    finite = x[x.isfinite()]
    return finite.abs().max().item() if finite.numel() else 0.0


def sensitivities(compute: Callable[[], Sequence[Tensor]]) -> list[float]:
    """Of each result of ``compute``, which works in float64: its largest change per unit of relative error."""
    exact, moved = compute(), []
    for seed in range(DRAWS):
        with Perturbed(seed):
            moved.append(compute())
    return [
        max(largest(draw[place].double() - right.double()) for draw in moved) / STEP
        for place, right in enumerate(exact)
    ]


def assert_rounded(
    found: Sequence[Tensor], eager: Sequence[Tensor], compute: Callable[[], Sequence[Tensor]]
) -> None:
    """Every result within its budget: ``eager`` are the definition's in the same type, ``compute`` gives float64's."""
    exact, sizes = compute(), sensitivities(compute)
    for place, numbers in enumerate(zip(found, eager, exact, sizes, strict=True)):
        assert_near(f"result {place}", *numbers)


def assert_near(name: str, found: Tensor, eager: Tensor, exact: Tensor, sensitivity: float) -> None:
    """error <= 2 x error of the definition in the same type + the roundings of float32 + that of the result."""
    assert found.dtype == eager.dtype, f"{name} is {found.dtype}, not {eager.dtype}"
    assert found.shape == exact.shape, f"{name} is {found.shape}, not {exact.shape}"
    assert torch.equal(found == -math.inf, exact == -math.inf), f"{name}: not the same are empty"
    errors = [torch.where(exact.isfinite(), x - exact, 0.0) for x in (found, eager)]
    assert not errors[0].isnan().any(), f"{name} is not a number"
    error, plain = map(largest, errors)
    rounding = torch.finfo(torch.float32).eps * sensitivity
    rounding += torch.finfo(found.dtype).eps * largest(exact)
    budget = 2 * plain + rounding
    assert error <= budget, f"{name}: error {error:.3g}, budget {budget:.3g}"
