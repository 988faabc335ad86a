"""Types."""

from __future__ import annotations

import pytest
import torch
from every_loss import (
    Case,
    arguments,
    assert_same,
    run,
    value_and_gradients,
)
from semantic_cases import (
    backends,
    every,
)

from hardneg.functional import (
    contrastive_loss,
    info_nce_loss,
)


@backends
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@every
def test_half_precision(which: Case, dtype: torch.dtype, backend: object) -> None:
    embeddings, groups = arguments(which, dtype=dtype)
    value, gradients = value_and_gradients(which, embeddings, groups, backend=backend)
    assert value.dtype == torch.float32
    assert [g.dtype for g in gradients] == [dtype] * len(gradients)
    wide = [x.float() for x in embeddings]
    expected = value_and_gradients(which, wide, groups, backend=backend)
    torch.testing.assert_close(value, expected[0], rtol=1e-5, atol=1e-6)
    rounding = 2 * torch.finfo(dtype).eps
    for found, right in zip(gradients, expected[1], strict=True):
        bound = rounding * right.abs().amax()
        assert ((found.float() - right).abs() <= bound).all()


@backends
@every
def test_double_precision(which: Case, backend: object) -> None:
    embeddings, groups = arguments(which, dtype=torch.float64)
    value, gradients = value_and_gradients(which, embeddings, groups, backend=backend)
    assert value.dtype == torch.float64
    assert all(g.dtype == torch.float64 for g in gradients)


@backends
@every
def test_autocast_changes_nothing(which: Case, backend: object) -> None:
    for dtype in (torch.float32, torch.bfloat16):
        embeddings, groups = arguments(which, dtype=dtype)
        expected = value_and_gradients(which, embeddings, groups, backend=backend)
        leaves = [x.requires_grad_() for x in embeddings]
        torch.manual_seed(5)
        with torch.autocast("cpu", torch.bfloat16):
            value = run(which, leaves, groups, backend=backend)
        gradients = list(torch.autograd.grad(value, leaves))
        assert value.dtype == torch.float32
        assert all(g.dtype == dtype for g in gradients)
        assert_same((value.detach(), gradients), expected, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("negatives", ["hardest", "all"])
@backends
def test_autocast_leaves_a_callable_similarity_alone(backend: object, negatives: str) -> None:
    torch.manual_seed(0)
    leaves = [torch.randn(9, 16, requires_grad=True) for _ in range(2)]
    options = {"similarity": lambda q, c: q @ c.T, "negatives": negatives, "backend": backend}
    for loss in (contrastive_loss, info_nce_loss):
        expected = loss(*leaves, **options)
        right = torch.autograd.grad(expected, leaves)
        with torch.autocast("cpu", torch.bfloat16):
            value = loss(*leaves, **options)
        gradients = torch.autograd.grad(value, leaves)
        assert_same((value, list(gradients)), (expected, list(right)), rtol=1e-6, atol=1e-7)
