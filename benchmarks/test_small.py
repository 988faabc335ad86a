"""What small batches are compared with computes the same."""

from __future__ import annotations

import pytest
import torch

from benchmarks.small import CASES, inputs


@pytest.mark.parametrize("name", CASES)
def test_contenders_compute_the_same(name: str) -> None:
    given = inputs(24, 16, name)
    found, expected = (step(*given) for step in CASES[name])
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)
    first, second = (torch.autograd.grad(value, given[0])[0] for value in (found, expected))
    torch.testing.assert_close(first, second, rtol=1e-4, atol=1e-6)
