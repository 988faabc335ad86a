"""Gradients of half precision embeddings: the shares of all reductions add up in float32 and are rounded once."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from covering import covering
from every_loss import EVERY, ONE_OF_EACH, SIMILARITIES, Case, run, squashed
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from hardneg import Tiled
from hardneg.functional import contrastive_loss, info_nce_loss, sup_con_loss, triplet_loss
from hardneg.ops.half_precision import Float32Gradient

HALF = [torch.float16, torch.bfloat16]
TILED = [("auto"), ("tiled"), Tiled((7, 5)), ("dense")]


def inputs(
    which: Case, dtype: torch.dtype, spread: float, seed: int
) -> tuple[list[Tensor], list[Tensor]]:
    """Classes of four, near together or apart, so that shares cancel."""
    g, labels = torch.Generator().manual_seed(seed), torch.arange(32) // 4
    centres = torch.randn(8, 12, generator=g)[labels]
    x, y = (centres + spread * torch.randn(32, 12, generator=g) for _ in range(2))
    if which.kind == "paired":
        return [x.to(dtype), y.to(dtype)], [labels, labels]
    return [x.to(dtype)], [labels]


def gradients(
    which: Case, embeddings: list[Tensor], groups: list[Tensor], backend: object
) -> list[Tensor]:
    leaves = [x.clone().requires_grad_() for x in embeddings]
    torch.manual_seed(5)
    run(which, leaves, groups, backend=backend).backward()
    return [x.grad for x in leaves if x.grad is not None]


@covering(2, which=EVERY, backend=TILED, dtype=HALF)
def test_one_rounding(which: Case, backend: object, dtype: torch.dtype) -> None:
    """Every entry is the one of float32 gradients, rounded once."""
    for spread, seed in ((1.0, 0), (0.1, 1)):
        embeddings, groups = inputs(which, dtype, spread, seed)
        found = gradients(which, embeddings, groups, backend)
        single = gradients(which, [x.float() for x in embeddings], groups, backend)
        for half, exact in zip(found, single, strict=True):
            assert half.dtype == dtype
            rounding = torch.finfo(dtype).eps * exact.abs() + torch.finfo(dtype).tiny
            assert ((half.float() - exact).abs() <= rounding / 2 + 1e-6 * exact.abs().max()).all()


@covering(2, which=ONE_OF_EACH, similarity=SIMILARITIES, backend=TILED[:3], dtype=HALF)
def test_error_of_at_most_twice_that_of_the_definitions(
    which: Case, similarity: str, backend: object, dtype: torch.dtype
) -> None:
    if not which.takes(similarity):
        pytest.skip("the margin loss takes distances only")
    which = Case(which.name, which.kind, (*which.options, ("similarity", similarity)))
    for seed in range(3):
        embeddings, groups = inputs(which, dtype, 0.5, seed)
        exact = gradients(which, [x.double() for x in embeddings], groups, "dense")
        dense = gradients(which, embeddings, groups, "dense")
        found = gradients(which, embeddings, groups, backend)
        for ours, theirs, right in zip(found, dense, exact, strict=True):
            scale = right.abs().max()
            allowed = 2 * (theirs.double() - right).abs().max() + torch.finfo(dtype).eps * scale
            assert (ours.double() - right).abs().max() <= allowed + torch.finfo(dtype).tiny


@pytest.mark.parametrize("dtype", HALF, ids=str)
def test_callables_too(dtype: torch.dtype) -> None:
    x, y = torch.randn(20, 6).to(dtype), torch.randn(20, 6).to(dtype)
    for backend in ("tiled", "dense"):
        told = {"negatives": "all", "similarity": squashed, "backend": backend}
        leaves = [z.clone().requires_grad_() for z in (x, y)]
        contrastive_loss(*leaves, **told).backward()
        single = [z.float().requires_grad_() for z in (x, y)]
        contrastive_loss(*single, **told).backward()
        for half, exact in zip(leaves, single, strict=True):
            assert half.grad is not None
            assert exact.grad is not None
            torch.testing.assert_close(half.grad, exact.grad.to(dtype), rtol=2e-3, atol=1e-6)


class Seen(TorchDispatchMode):
    """The types of the embeddings that the project's operators get."""

    def __init__(self) -> None:
        super().__init__()
        self.types: set[torch.dtype] = set()

    def __torch_dispatch__(
        self, operator: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        named = {argument.name for argument in operator._schema.arguments}
        if operator.namespace == "hardneg" and {"queries", "candidates"} <= named:
            self.types.update(x.dtype for x in args[:2])
        return operator(*args, **(kwargs or {}))


@pytest.mark.parametrize("dtype", HALF, ids=str)
def test_operators_get_the_embeddings_as_they_are(dtype: torch.dtype) -> None:
    """Kernels multiply 16-bit numbers, and no float32 copy is kept."""
    x = torch.randn(300, 4).to(dtype).requires_grad_()
    wide = Float32Gradient.apply(x)
    assert wide.dtype == torch.float32
    assert wide.untyped_storage().nbytes() == 4
    with Seen() as seen:
        triplet_loss(x, torch.arange(300) // 4, backend="tiled").backward()
    assert seen.types == {dtype}


@pytest.mark.parametrize("dtype", HALF, ids=str)
def test_a_frozen_side_and_no_gradient_at_all(dtype: torch.dtype) -> None:
    x, y = torch.randn(30, 6).to(dtype), torch.randn(30, 6).to(dtype)
    for backend in ("auto", "tiled"):
        leaf = x.clone().requires_grad_()
        info_nce_loss(leaf, y, backend=backend).backward()
        both = [z.clone().requires_grad_() for z in (x, y)]
        info_nce_loss(*both, backend=backend).backward()
        assert torch.equal(leaf.grad, both[0].grad)
        with torch.no_grad():
            assert not info_nce_loss(leaf, y, backend=backend).requires_grad
        assert not info_nce_loss(x, y, backend=backend).requires_grad


def test_a_loss_scaler_keeps_small_gradients() -> None:
    """Gradients below what float16 can hold, times 2^16 and back."""
    x = (torch.randn(40, 8, generator=torch.Generator().manual_seed(0)) * 30).half()
    labels = torch.arange(40) // 4
    for backend in ("auto", "tiled", "dense"):
        leaf = x.clone().requires_grad_()
        (1e-4 * sup_con_loss(leaf, labels, backend=backend) * 2.0**16).backward()
        single = x.float().requires_grad_()
        (1e-4 * sup_con_loss(single, labels, backend=backend)).backward()
        found = leaf.grad.float() / 2.0**16
        assert (found - single.grad).abs().max() <= 1e-3 * single.grad.abs().max()


@pytest.mark.parametrize("backend", ["auto", "tiled", "dense"])
@pytest.mark.parametrize("dtype", HALF, ids=str)
def test_compiled_as_one_graph(dtype: torch.dtype, backend: str) -> None:
    x, labels = torch.randn(24, 6).to(dtype), torch.arange(24) // 4

    def loss(embeddings: Tensor) -> Tensor:
        return sup_con_loss(embeddings, labels, backend=backend)

    results = []
    for one in (loss, torch.compile(loss, fullgraph=True, backend="aot_eager")):
        leaf = x.clone().requires_grad_()
        value = one(leaf)
        value.backward()
        results.append((value.detach(), leaf.grad))
    if (
        backend == "auto"
    ):  # known as a whole: one step by hand, which a compiler makes of the reductions
        torch.testing.assert_close(results[1][0], results[0][0], rtol=1e-6, atol=0)
        torch.testing.assert_close(
            results[1][1], results[0][1], rtol=torch.finfo(dtype).eps, atol=0
        )
    else:
        assert torch.equal(results[0][0], results[1][0])
        assert torch.equal(results[0][1], results[1][1])


def test_second_derivatives_of_the_definitions() -> None:
    x, labels = torch.randn(12, 4).bfloat16().requires_grad_(), torch.arange(12) // 3
    (first,) = torch.autograd.grad(sup_con_loss(x, labels, backend="dense"), x, create_graph=True)
    (second,) = torch.autograd.grad(first.float().square().sum(), x)
    assert second.isfinite().all()
    assert second.abs().max() > 0
