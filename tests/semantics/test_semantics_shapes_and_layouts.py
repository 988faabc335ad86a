"""Shapes and layouts."""

from __future__ import annotations

import pytest
import torch
from covering import covering
from every_loss import (
    BACKENDS,
    EVERY,
    Case,
    arguments,
    assert_same,
    numbers,
    run,
    value_and_gradients,
)
from semantic_cases import (
    SIMILARITIES,
    backends,
    every,
    resolve_negatives,
)
from torch import Tensor

from hardneg import (
    SemiHard,
)


@covering(2, similarity=SIMILARITIES, backend=BACKENDS, which=EVERY)
def test_width_1(which: Case, similarity: str, backend: object) -> None:
    if not which.takes(similarity):
        pytest.skip("the loss or its strategy needs distances")
    embeddings, groups = arguments(which, d=1, dtype=torch.float64)
    options = {"similarity": similarity}
    found = value_and_gradients(which, embeddings, groups, backend=backend, **options)
    expected = value_and_gradients(which, embeddings, groups, backend="dense", **options)
    assert found[0].isfinite()
    assert all(gradient.isfinite().all() for gradient in found[1])
    below_the_positive = isinstance(resolve_negatives(which), SemiHard)
    if below_the_positive and similarity == "cosine":
        return  # All scores are 1 or -1, so that rounding says which of them lie below another.
    # Softplus is linear from 20 on: 2e-9 away from the logarithm.
    assert_same(found, expected, rtol=1e-8, atol=1e-12)


@backends
@every
def test_layouts(which: Case, backend: object) -> None:
    embeddings, groups = arguments(which)
    expected = value_and_gradients(which, embeddings, groups, backend=backend)

    def through(view: object) -> tuple[Tensor, list[Tensor]]:
        leaves = [x.clone().requires_grad_() for x in embeddings]
        torch.manual_seed(5)
        value = run(which, [view(x) for x in leaves], groups, backend=backend)
        return value.detach(), list(torch.autograd.grad(value, leaves))

    assert_same(through(lambda x: x.T.contiguous().T), expected)
    assert_same(through(lambda x: torch.cat([x, x], dim=1)[:, : x.shape[1]]), expected)
    assert_same(through(lambda x: torch.stack([x, x], dim=1)[:, 0]), expected)
    assert_same(through(lambda x: torch.stack([x, x], dim=2)[:, :, 1]), expected)


@backends
@every
def test_expanded_inputs(which: Case, backend: object) -> None:
    embeddings, groups = arguments(which)
    rows = [x[:1].clone() for x in embeddings]
    spread = [x.expand(y.shape) for x, y in zip(rows, embeddings, strict=True)]
    dense = [x.contiguous() for x in spread]
    expected = value_and_gradients(which, dense, groups, backend=backend)
    leaves = [x.requires_grad_() for x in rows]
    torch.manual_seed(5)
    full = [x.expand(y.shape) for x, y in zip(leaves, embeddings, strict=True)]
    value = run(which, full, groups, backend=backend)
    gradients = torch.autograd.grad(value, leaves)
    torch.testing.assert_close(value, expected[0])
    for found, right in zip(gradients, expected[1], strict=True):
        torch.testing.assert_close(found, right.sum(0, keepdim=True), rtol=1e-4, atol=1e-5)


@backends
@every
def test_a_gradient_for_one_side_only(which: Case, backend: object) -> None:
    embeddings, _ = arguments(which)
    if which.kind == "labelled":
        embeddings.append(numbers(9, 4, 7))
        groups = [torch.arange(7) % 3, torch.arange(9) % 3]
    else:
        groups = []
    expected = value_and_gradients(which, embeddings, groups, backend=backend)
    for side in (0, 1):
        leaves = [x.clone().requires_grad_(i == side) for i, x in enumerate(embeddings)]
        torch.manual_seed(5)
        value = run(which, leaves, groups, backend=backend)
        value.backward()
        assert leaves[1 - side].grad is None
        torch.testing.assert_close(value.detach(), expected[0])
        torch.testing.assert_close(leaves[side].grad, expected[1][side])
