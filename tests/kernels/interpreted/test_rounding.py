"""The budget itself: float32 in another order keeps it, one term left out or a factor in bfloat16 does not."""

from __future__ import annotations

import pytest
import torch
from rounding import assert_rounded, sensitivities
from torch import Tensor

SHAPES = [(41, 73, 21), (17, 9, 40), (1, 37, 5)]


def sides(seed: int, n: int, m: int, d: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(n, d, generator=generator), torch.randn(m, d, generator=generator)


def definition(q: Tensor, c: Tensor, scale: float) -> list[Tensor]:
    """The log-sum-exp of every row, and its gradients."""
    q, c = q.detach().requires_grad_(), c.detach().requires_grad_()
    value = torch.logsumexp(scale * (q @ c.T), 1)
    return [value.detach(), *torch.autograd.grad(value.sum(), (q, c))]


def by_hand(q: Tensor, c: Tensor, scale: float, left_out: int, part: torch.dtype) -> list[Tensor]:
    """The same column by column, backwards; without the last columns, or with weights of another type."""
    s = torch.stack([(q * row).sum(1) for row in c.flip(0)], 1).flip(1) * scale
    s[:, s.shape[1] - left_out :] = -torch.inf
    value = s.amax(1) + (s - s.amax(1, keepdim=True)).exp().cumsum(1)[:, -1].log()
    weights = (scale * (s - value[:, None]).exp()).to(part).float()
    return [value, weights @ c, weights.T @ q]


def check(found: list[Tensor], q: Tensor, c: Tensor, scale: float) -> None:
    double = q.double(), c.double()
    assert_rounded(found, definition(q, c, scale), lambda: definition(*double, scale))


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("scale", [0.3, 3.0])
def test_another_order_keeps_it(shape: tuple[int, int, int], scale: float) -> None:
    for seed in range(30):
        q, c = sides(seed, *shape)
        check(by_hand(q, c, scale, 0, torch.float32), q, c, scale)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize(("left_out", "part"), [(1, torch.float32), (0, torch.bfloat16)], ids=str)
def test_a_fault_does_not(shape: tuple[int, int, int], left_out: int, part: torch.dtype) -> None:
    for seed in range(30):
        q, c = sides(seed, *shape)
        with pytest.raises(AssertionError, match="budget"):
            check(by_hand(q, c, 0.3, left_out, part), q, c, 0.3)


def test_it_grows_with_terms_and_operands_and_where_they_cancel() -> None:
    def size(*numbers: float) -> float:
        return sensitivities(lambda: [torch.tensor(numbers, dtype=torch.float64).sum()])[0]

    assert 1 <= size(1.0) <= 4
    assert size(*[1.0] * 400) > 200
    assert size(1e6, 1.0, -1e6) > 1e5
