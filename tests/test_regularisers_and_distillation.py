"""KoLeo, spread-out, and distillation on own negatives, against their plain formulas and peers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from every_loss import BACKEND_IDS, BACKENDS, numbers
from torch import Tensor

from hardneg import KLDistillation, KoLeo, MarginMSE, SpreadOut, Tiled

SIMILARITIES = ("cosine", "dot", "euclidean")


def koleo(x: Tensor) -> Tensor:
    u = F.normalize(x)
    nearest = (u @ u.T).fill_diagonal_(-2).argmax(1)
    return -((u - u[nearest]).norm(dim=1) + 1e-8).log().mean()


def spread_out(x: Tensor) -> Tensor:
    u, n = F.normalize(x), len(x)
    return (u @ u.T - torch.diag((u * u).sum(1))).square().sum() / (n * (n - 1))


def scores(similarity: str, q: Tensor, c: Tensor, own: Tensor) -> Tensor:
    every = torch.cat([c[:, None], own], 1)
    if similarity == "euclidean":
        return -(q[:, None] - every).norm(dim=2)
    if similarity == "cosine":
        q, every = F.normalize(q), F.normalize(every, dim=2)
    return (q[:, None] * every).sum(2)


def assert_same(
    ours: Callable[..., Tensor],
    theirs: Callable[..., Tensor],
    inputs: list[Tensor],
    tolerance: float = 1e-10,
) -> None:
    first, second = ([x.clone().requires_grad_() for x in inputs] for _ in range(2))
    value, expected = ours(*first), theirs(*second)
    torch.testing.assert_close(value, expected.to(value.dtype), rtol=tolerance, atol=tolerance)
    pairs = [torch.autograd.grad(v, xs) for v, xs in ((value, first), (expected, second))]
    for a, b in zip(*pairs, strict=True):
        assert b.abs().max() > 0
        torch.testing.assert_close(a, b.to(a.dtype), rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("backend", BACKENDS, ids=BACKEND_IDS)
@pytest.mark.parametrize("rows", [2, 7, 40])
def test_koleo(rows: int, backend: Any) -> None:
    assert_same(KoLeo(backend), koleo, [numbers(rows, 5, 0, torch.float64)])


@pytest.mark.parametrize("shape", [(2, 5), (7, 3), (40, 60)])
def test_spread_out(shape: tuple[int, int]) -> None:
    assert_same(SpreadOut(), spread_out, [numbers(*shape, 0, torch.float64)])


@pytest.mark.parametrize("module", [KoLeo(), SpreadOut(), KoLeo(Tiled((3, 5)))])
def test_one_row_equal_rows_and_zeros(module: torch.nn.Module) -> None:
    assert module(torch.randn(1, 4)) == 0
    for x in (torch.ones(4, 3), torch.zeros(4, 3), torch.eye(3).repeat(2, 1)):
        leaf = x.requires_grad_()
        value = module(leaf)
        value.backward()
        assert value.isfinite()
        assert leaf.grad.isfinite().all()


@pytest.mark.parametrize("module", [KoLeo(), SpreadOut()])
def test_regularisers_in_half_precision_under_the_compiler_and_by_differences(module) -> None:
    x = numbers(12, 6, 0, torch.bfloat16)
    value = module(x)
    assert value.dtype == torch.float32
    torch.testing.assert_close(value, module(x.float()), rtol=1e-4, atol=1e-5)
    torch.compiler.reset()
    compiled = torch.compile(module, backend="aot_eager", fullgraph=True)
    torch.testing.assert_close(compiled(x.float()), module(x.float()))
    torch.compiler.reset()
    leaf = numbers(5, 3, 0, torch.float64).requires_grad_()
    torch.autograd.gradcheck(module, leaf)


def test_no_matrix_of_rows_is_built() -> None:
    x, seen = numbers(3000, 4, 0), []

    class Sizes(torch.utils._python_dispatch.TorchDispatchMode):
        def __torch_dispatch__(self, function, types, args=(), kwargs=None):
            out = function(*args, **(kwargs or {}))
            seen.extend(
                y.numel() for y in torch.utils._pytree.tree_leaves(out) if isinstance(y, Tensor)
            )
            return out

    with Sizes():
        SpreadOut()(x)
        KoLeo(Tiled((64, 512)))(x)
    assert max(seen) < 3000 * 512


OURS = [
    (MarginMSE, lambda s, t: ((s[:, :1] - s[:, 1:]) - (t[:, :1] - t[:, 1:])).square().mean()),
    (
        lambda similarity: KLDistillation(2.0, similarity),
        lambda s, t: F.kl_div((s / 2).log_softmax(1), (t / 2).softmax(1), reduction="batchmean") * 4,
    ),
]  # fmt: skip


def distilled(dtype: torch.dtype = torch.float64) -> tuple[list[Tensor], Tensor]:
    n, k = 6, 3
    rows = [numbers(n, 5, 0, dtype), numbers(n, 5, 1, dtype), numbers(n * k, 5, 2, dtype)]
    return [*rows[:2], rows[2].view(n, k, 5)], numbers(n, k + 1, 3, dtype)


@pytest.mark.parametrize("similarity", SIMILARITIES)
@pytest.mark.parametrize(("make", "plain"), OURS, ids=["margins", "divergence"])
def test_distillation(make: Any, plain: Any, similarity: str) -> None:
    inputs, teacher = distilled()
    loss = make(similarity)
    assert_same(
        lambda *x: loss(*x, teacher), lambda *x: plain(scores(similarity, *x), teacher), inputs
    )
    leaves = [x.clone().requires_grad_() for x in inputs]
    torch.autograd.gradcheck(lambda *x: loss(*x, teacher), leaves)


@pytest.mark.parametrize(("make", "plain"), OURS, ids=["margins", "divergence"])
def test_padding_is_left_out(make: Any, plain: Any) -> None:
    """As if shorter lists had been given."""
    inputs, teacher = distilled()
    ignore = torch.zeros(6, 3, dtype=torch.bool)
    ignore[:, 2] = True
    loss, short = make("dot"), [*inputs[:2], inputs[2][:, :2]]
    found = loss(*inputs, teacher, own_ignore_mask=ignore)
    torch.testing.assert_close(found, loss(*short, teacher[:, :3]))
    ignore[:] = True
    leaf = inputs[0].clone().requires_grad_()
    value = loss(leaf, *inputs[1:], teacher, own_ignore_mask=ignore)
    value.backward()
    assert value.abs() < 1e-12
    assert leaf.grad.abs().max() < 1e-12


@pytest.mark.parametrize("make", [make for make, _ in OURS], ids=["margins", "divergence"])
def test_distillation_in_half_precision_and_under_the_compiler(make: Any) -> None:
    loss, (inputs, teacher) = make("cosine"), distilled(torch.bfloat16)
    value = loss(*inputs, teacher)
    assert value.dtype == torch.float32
    singles = [x.float() for x in inputs]
    torch.testing.assert_close(value, loss(*singles, teacher.float()), rtol=1e-4, atol=1e-5)
    torch.compiler.reset()
    compiled = torch.compile(loss, backend="aot_eager", fullgraph=True)
    torch.testing.assert_close(compiled(*singles, teacher), loss(*singles, teacher))
    torch.compiler.reset()


def test_margins_are_those_of_sentence_transformers() -> None:
    module = pytest.importorskip(
        "sentence_transformers.sentence_transformer.losses.margin_mse",
        reason="sentence-transformers is not installed",
    )
    inputs, teacher = distilled()
    peer = module.MarginMSELoss(torch.nn.Identity())

    def theirs(q: Tensor, c: Tensor, own: Tensor) -> Tensor:
        return peer.compute_loss_from_embeddings([q, c, *own.unbind(1)], teacher)

    assert_same(lambda *x: MarginMSE()(*x, teacher), theirs, inputs)


X = [torch.randn(4, 3), torch.randn(4, 3), torch.randn(4, 2, 3)]


@pytest.mark.parametrize(
    ("run", "error", "message"),
    [
        (lambda: KoLeo()(torch.randn(3)), ValueError, r"embeddings has shape \(3,\)"),
        (lambda: SpreadOut()(torch.ones(3, 2).long()), TypeError, "expected a floating-point type"),
        (lambda: KoLeo("fast"), ValueError, "unknown backend 'fast'"),
        (lambda: KLDistillation(0.0), ValueError, "temperature is 0.0: expected above 0"),
        (lambda: MarginMSE()(*X, torch.randn(4, 2)), ValueError, r"has shape \(4, 2\): expected \(4, 3\)"),
        (lambda: MarginMSE()(*X, torch.ones(4, 3).long()), TypeError, "teacher_scores is torch.int64"),
        (lambda: MarginMSE()(*X, None), TypeError, "teacher_scores is a NoneType"),
        (lambda: MarginMSE()(X[0], X[1][:3], X[2], torch.randn(4, 3)), ValueError, "4 queries but 3 candidates"),
        (lambda: MarginMSE()(*X[:2], X[2][:, :0], torch.randn(4, 1)), ValueError, "own_negatives are empty"),
        (
            lambda: MarginMSE()(*X, torch.randn(4, 3), own_ignore_mask=torch.zeros(4, 3, dtype=torch.bool)),
            ValueError,
            r"own_ignore_mask has shape \(4, 3\): expected \(4, 2\)",
        ),
    ],
)  # fmt: skip
def test_messages(run: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        run()
