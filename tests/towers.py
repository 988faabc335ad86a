"""Encoders that are small and always the same, for tests of gradient caching."""

from __future__ import annotations

from typing import Any

import torch
from every_loss import numbers
from torch import Tensor, nn


def tower(
    width: int, out: int = 8, hidden: int = 32, depth: int = 2, **extra: nn.Module
) -> nn.Module:
    """A perceptron; ``extra`` layers follow the first."""
    layers: list[nn.Module] = [nn.Linear(width, hidden), nn.Tanh(), *extra.values()]
    for _ in range(depth - 1):
        layers += [nn.Linear(hidden, hidden), nn.Tanh()]
    return nn.Sequential(*layers, nn.Linear(hidden, out))


def two_towers(dtype: torch.dtype = torch.float64, **shape: Any) -> tuple[nn.Module, nn.Module]:
    """The same weights at every call."""
    with torch.random.fork_rng():
        torch.manual_seed(3)
        return tower(5, **shape).to(dtype), tower(7, **shape).to(dtype)


def gradients(*modules: nn.Module) -> list[Tensor]:
    found = [p.grad for module in modules for p in module.parameters() if p.requires_grad]
    assert all(g is not None for g in found)
    return found


def assert_alike(found: list[Tensor], expected: list[Tensor], tolerance: float = 1e-12) -> None:
    """Relative to the largest entry of each."""
    assert len(found) == len(expected) > 0
    for a, b in zip(found, expected, strict=True):
        assert a.dtype == b.dtype
        torch.testing.assert_close(a, b, rtol=0, atol=tolerance * float(b.abs().max().clamp(1e-3)))


def sides(n: int, m: int) -> list[Tensor]:
    return [numbers(n, 5, 0, torch.float64), numbers(m, 7, 1, torch.float64)]
