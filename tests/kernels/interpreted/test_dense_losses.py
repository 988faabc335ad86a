"""Losses over all negatives with ``backend="triton"`` against the dense formula in float64, in Triton's interpreter.

What a loss composes besides reductions is that of every backend; so the budget is twice the error of the dense
backend in the same type, and rounding.
"""

from __future__ import annotations

import pytest
import torch
from every_loss import FIXED, Case, arguments, case, value_and_gradients
from rounding import assert_rounded
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

    def numbers(given: list[Tensor], backend: str) -> list[Tensor]:
        value, gradients = value_and_gradients(which, given, groups, backend=backend)
        return [value, *gradients]

    found, eager = (numbers(embeddings, backend) for backend in ("triton", "dense"))
    assert_rounded(found, eager, lambda: numbers(wide, "dense"))


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
        return [x for x in found if x is not None]

    found, eager = (gradients(torch.float32, backend) for backend in ("triton", "dense"))
    assert len(found) == 1 + (name == "sigmoid")
    assert_rounded(found, eager, lambda: gradients(torch.float64, "dense"))
