"""Losses over all negatives with ``backend="triton"`` against the dense formula in float64, in Triton's interpreter.

What a loss composes besides reductions is that of every backend; so the budget is that of the dense
backend in the same type: twice its error and rounding.
"""

from __future__ import annotations

import pytest
import torch
from every_loss import FIXED, Case, arguments, case, value_and_gradients
from torch import Tensor

DENSE = [which for which in FIXED if dict(which.options).get("negatives") == "all"] + [
    case("contrastive", "paired", negatives="all", similarity="order"),
    case("contrastive", "paired", negatives="all", reduction="mean_active"),
    case("info_nce", "paired", negatives="all", directions="both"),
    case("triplet", "labelled", positives="hardest", negatives="all", similarity="order"),
    case("pairwise_contrastive", "labelled", negatives="all", similarity="squared_euclidean"),
]
SIZE = {"n": 19, "m": 35, "d": 6}


def with_ids(which: Case, groups: list[Tensor]) -> list[Tensor]:
    """Several candidates of one query, so that related pairs are left out."""
    if which.kind == "labelled":
        return groups
    return [torch.arange(SIZE["n"]) // 2, torch.arange(SIZE["m"]) // 2]


@pytest.mark.parametrize("which", DENSE, ids=str)
def test_against_float64(which: Case) -> None:
    dtype = (torch.float32, torch.bfloat16, torch.float16)[DENSE.index(which) % 3]
    embeddings, groups = arguments(which, **SIZE, dtype=dtype)
    groups = with_ids(which, groups)
    wide = [x.double() for x in embeddings]
    exact = value_and_gradients(which, wide, groups, backend="dense")
    eager = value_and_gradients(which, embeddings, groups, backend="dense")
    found = value_and_gradients(which, embeddings, groups, backend="triton")
    pairs = zip([found[0], *found[1]], [eager[0], *eager[1]], [exact[0], *exact[1]], strict=True)
    for x, y, right in pairs:
        assert x.dtype == y.dtype
        rounding = torch.finfo(x.dtype).eps * right.abs().amax()
        budget = 2 * (y.double() - right).abs().amax() + rounding
        error = (x.double() - right).abs().amax()
        assert error <= budget, f"error {error:.3g}, budget {budget:.3g}"


FROZEN = [
    case("info_nce", "paired", negatives="all"),
    case("contrastive", "paired", negatives="all", similarity="euclidean"),
    case("contrastive", "paired", negatives="all", similarity="order"),
    case("contrastive", "paired", negatives="hardest"),
]


@pytest.mark.parametrize("side", [0, 1], ids=["queries", "candidates"])
@pytest.mark.parametrize("which", FROZEN, ids=str)
def test_a_frozen_side(which: Case, side: int) -> None:
    """The gradient of the other side is the same, bit for bit."""
    for dtype in (torch.float32, torch.float16):
        embeddings, groups = arguments(which, **SIZE, dtype=dtype)
        value, both = value_and_gradients(which, embeddings, groups, backend="triton")
        leaves = [x.clone().requires_grad_(place == side) for place, x in enumerate(embeddings)]
        found = which(*leaves, backend="triton")
        found.backward()
        assert torch.equal(found.detach(), value)
        assert leaves[1 - side].grad is None
        assert leaves[side].grad is not None
        assert torch.equal(leaves[side].grad, both[side])


@pytest.mark.parametrize("name", ["info_nce", "sigmoid"])
def test_learned_temperature(name: str) -> None:
    """Gradients of a temperature and a bias that are learned."""
    which = case(name, "paired", negatives="all")
    embeddings, _ = arguments(which, **SIZE)

    def gradients(kind: torch.dtype, backend: str) -> list[Tensor]:
        leaves = [torch.tensor(x, dtype=kind, requires_grad=True) for x in (0.2, -1.5)]
        told = {"temperature": leaves[0], "backend": backend}
        if name == "sigmoid":
            told["bias"] = leaves[1]
        value = which(*(x.to(kind) for x in embeddings), **told)
        found = torch.autograd.grad(value, leaves, allow_unused=True)
        return [x.double() for x in found if x is not None]

    exact = gradients(torch.float64, "dense")
    eager, found = gradients(torch.float32, "dense"), gradients(torch.float32, "triton")
    assert len(found) == len(exact) == 1 + (name == "sigmoid")
    for x, y, right in zip(found, eager, exact, strict=True):
        assert (x - right).abs() <= 2 * (y - right).abs() + 1e-6 * right.abs()
