"""Whole losses with ``backend="triton"`` against the dense definitions in float64."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from rounding import assert_rounded
from torch import Tensor

import hardneg.functional as H
from hardneg import DistanceWeighted, Hardest, RandomK, RankWindow, SemiHard, TopK
from hardneg.negatives.selection import Selection
from hardneg.ops.backends import bind, bind_large
from hardneg.ops.comparison import Comparison, Relation
from hardneg.ops.fused_backend import Fused, FusedScores
from hardneg.ops.operators import Pairs
from hardneg.ops.operators.schema import flatten
from hardneg.ops.requests import Engine, Search
from hardneg.ops.tiled_backend import TiledScores
from hardneg.similarities import Cosine, Order

N, M, WIDTH = 37, 45, 12
IDS = torch.arange(N) % 16, torch.cat([torch.arange(N) % 16, torch.arange(M - N)])
LABELS = torch.arange(N) % 9


def contrastive(**options: Any) -> Callable[..., Any]:
    ids = {"query_ids": IDS[0], "candidate_ids": IDS[1]}
    return lambda q, c, **more: H.contrastive_loss(q, c, **ids, **options, **more)


def triplet(**options: Any) -> Callable[..., Any]:
    return lambda q, c, **more: H.triplet_loss(q, LABELS, **options, **more)


def info_nce(**options: Any) -> Callable[..., Any]:
    return lambda q, c, **more: H.info_nce_loss(q, c, **options, **more)


MINED = {
    "VSE++": contrastive(negatives="hardest"),
    "VSE++ order": contrastive(negatives="hardest", similarity="order"),
    "VSE++ queries only": contrastive(negatives="hardest", directions="queries", reduction="none"),
    "semi-hard": contrastive(negatives=SemiHard(), reduction="mean_active"),
    "in a range": contrastive(negatives=TopK(2, min_score=-0.2, max_score=0.5)),
    "kNN-margin": contrastive(negatives=TopK(3), similarity="dot", margin=1.0),
    "rank window": contrastive(negatives=RankWindow(2, 5, fallback="easiest"), reduction="sum"),
    "batch hard": triplet(positives="hardest", negatives=Hardest(), similarity="euclidean"),
    "all positives, semi-hard": triplet(positives="all", negatives=SemiHard(fallback="none")),
    "InfoNCE of the hardest": info_nce(negatives=TopK(4), temperature=0.1),
}
DRAWN = {
    "random": contrastive(negatives=RandomK(2)),
    "distance weighted": contrastive(negatives=DistanceWeighted(), similarity="cosine"),
}


def embeddings(dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    g = torch.Generator().manual_seed(5)
    q, c = torch.randn(N, WIDTH, generator=g), torch.randn(M, WIDTH, generator=g)
    c[:N] += 0.7 * q
    return q.to(dtype), c.to(dtype)


def flat(value: Any) -> Tensor:
    """A loss, or the terms of both directions, as one vector."""
    return (
        value.reshape(-1)
        if isinstance(value, Tensor)
        else torch.cat([x.reshape(-1) for x in value])
    )


def run(loss: Callable[..., Any], q: Tensor, c: Tensor, **options: Any) -> tuple[Tensor, ...]:
    """The loss, gradients and statistics."""
    torch.manual_seed(3)
    q, c = q.detach().clone().requires_grad_(), c.detach().clone().requires_grad_()
    value, stats = loss(q, c, return_stats=True, **options)
    value = flat(value)
    weights = torch.linspace(1, 2, len(value), dtype=value.dtype)
    gradients = torch.autograd.grad((value * weights).sum(), (q, c), allow_unused=True)
    dq, dc = (
        x.new_zeros(x.shape) if g is None else g for x, g in zip((q, c), gradients, strict=True)
    )
    numbers = [torch.as_tensor(x, dtype=torch.float64) for x in vars(stats).values()]
    return value.detach(), dq, dc, torch.stack([x.mean() for x in numbers])


def assert_like_dense(loss: Callable[..., Any], dtype: torch.dtype) -> None:
    """The loss, gradients and statistics."""
    q, c = embeddings(dtype)
    found, eager = (run(loss, q, c, backend=backend) for backend in ("triton", "dense"))
    double = q.double(), c.double()
    assert_rounded(found, eager, lambda: run(loss, *double, backend="dense"))


@pytest.mark.parametrize("name", MINED)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_mined_losses(name: str, dtype: torch.dtype) -> None:
    assert_like_dense(MINED[name], dtype)


@pytest.mark.parametrize("name", DRAWN)
def test_drawn_negatives_are_the_same(name: str) -> None:
    assert_like_dense(DRAWN[name], torch.float32)


# NumPy, with which the interpreter computes, warns of them.
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16], ids=str)
def test_a_number_that_is_none_makes_the_loss_nan(bad: float, dtype: torch.dtype) -> None:
    q, c = embeddings(dtype)
    c[4, 2] = bad
    value, dq, dc, _ = run(MINED["VSE++"], q, c, backend="triton")
    assert value.isnan()
    assert dq.isnan().any()
    assert dc.isnan().any()


def test_collapsed_and_zero_embeddings_stay_finite() -> None:
    for x, names in (
        (torch.zeros(N, WIDTH), ("VSE++", "batch hard")),
        (torch.ones(N, WIDTH), ("VSE++ order", "kNN-margin")),
    ):
        for name in names:
            value, dq, dc, _ = run(MINED[name], x, torch.cat([x, x[: M - N]]), backend="triton")
            assert all(part.isfinite().all() for part in (value, dq, dc)), name


def test_the_same_bits_every_time() -> None:
    first, second = (
        run(MINED["kNN-margin"], *embeddings(torch.float32), backend="triton") for _ in "ab"
    )
    assert all(torch.equal(x, y) for x, y in zip(first, second, strict=True))


def test_more_than_a_kernel_selects() -> None:
    q, c = embeddings(torch.float32)
    with pytest.raises(ValueError, match=r"at most 32 .* but 40 are asked for"):
        H.contrastive_loss(q, c, negatives=TopK(40), backend="triton")
    wide = H.contrastive_loss(q, c, negatives=TopK(40), backend=Fused(or_tiled=True))
    tiled = H.contrastive_loss(q, c, negatives=TopK(40), backend="tiled")
    torch.testing.assert_close(wide, tiled)


def test_what_is_named_triton_runs_the_kernels() -> None:
    q, c = embeddings(torch.float32)
    comparison = Comparison(q, c, Cosine(), Relation())
    for backend in ("triton", Fused()):
        scores = bind(backend, comparison)
        assert type(scores) is FusedScores
        assert scores.engine == Engine(fused=True)
    assert type(bind_large("auto", comparison)) is TiledScores


# PyTorch's own tracing check reads .grad of a tensor that is not a leaf.
@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf")
def test_operators_are_as_pytorch_expects_them() -> None:
    q, c = (x[:9].clone().requires_grad_() for x in embeddings(torch.float32))
    comparison = Comparison(q, c, Order(), Relation(paired=True))
    pairs = Pairs(torch.tensor([0, 3, -1]), torch.tensor([2, 2, 1]))
    for operator, *requests in (
        (torch.ops.hardneg.select, comparison, Search(Selection("highest", 2), hardest=True)),
        (torch.ops.hardneg.pair_scores, comparison.embeddings, pairs),
    ):
        requests.append(Engine(fused=True))
        values = tuple(value for each in requests for value in flatten(each))
        torch.library.opcheck(operator.default, values)


def test_one_graph_for_the_compiler() -> None:
    q, c = (x[:9].clone() for x in embeddings(torch.float32))
    told = {"backend": Fused(), "reduction": "sum"}
    compiled = torch.compile(H.contrastive_loss, fullgraph=True, backend="aot_eager")
    q.requires_grad_()
    found, expected = compiled(q, c, **told), H.contrastive_loss(q, c, **told)
    torch.testing.assert_close(found, expected)
    first, second = (torch.autograd.grad(x, q)[0] for x in (found, expected))
    torch.testing.assert_close(first, second)
