"""``weights``: a factor of every query's terms, against the terms one by one."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from every_loss import BACKEND_IDS, BACKENDS, PAIRED, Case, numbers
from torch import Tensor
from torch.nn import functional as F

from hardneg import (
    AllPositives,
    ContrastiveLoss,
    InfoNCELoss,
    Matryoshka,
    SemiHard,
    SigmoidLoss,
    TopK,
)

N = 8
W = torch.rand(N, generator=torch.Generator().manual_seed(4), dtype=torch.float64) + 0.1
W[3] = 0.0
IDS = torch.arange(N) // 2
backends = pytest.mark.parametrize("backend", BACKENDS, ids=BACKEND_IDS)
every = pytest.mark.parametrize("which", PAIRED, ids=str)


def module_of(which: Case, **options: Any) -> Any:
    return which.about.module(**{**dict(which.options), **options})


def rows(m: int = N, dtype: torch.dtype = torch.float64) -> list[Tensor]:
    return [numbers(N, 6, 0, dtype), numbers(m, 6, 1, dtype)]


def assert_same(ours: Any, theirs: Any, inputs: list[Tensor], tolerance: float = 1e-11) -> None:
    first, second = ([x.clone().requires_grad_() for x in inputs] for _ in range(2))
    value, expected = ours(*first), theirs(*second)
    torch.testing.assert_close(value, expected, rtol=tolerance, atol=tolerance)
    pairs = [torch.autograd.grad(v, xs) for v, xs in ((value, first), (expected, second))]
    for a, b in zip(*pairs, strict=True):
        assert b.abs().max() > 0
        torch.testing.assert_close(a, b, rtol=tolerance, atol=tolerance)


@backends
@every
@pytest.mark.parametrize("reduction", ["mean", "sum"])
@pytest.mark.parametrize("directions", ["both", "queries", "candidates"])
def test_every_loss_by_its_terms(
    which: Case, directions: Any, reduction: Any, backend: Any
) -> None:
    """Every anchor has a term here, but for strategies that select nothing."""
    options = {"directions": directions, "backend": backend}
    loss = module_of(which, reduction=reduction, **options)
    one_by_one = module_of(which, reduction="none", **options)
    told = {"query_ids": IDS, "candidate_ids": IDS}

    def theirs(q: Tensor, c: Tensor) -> Tensor:
        parts = [part for part in one_by_one(q, c, **told) if len(part)]
        found = []
        for part in parts:
            # a selection without a fallback may leave an anchor without any negative
            there = (
                part != 0 if dict(which.options)["negatives"] == SemiHard("none") else part == part
            )
            total = (part * W).sum()
            found.append(total if reduction == "sum" else total / W[there].sum())
        return torch.stack(found).sum() / (len(found) if loss.average else 1)

    assert_same(lambda q, c: loss(q, c, **told, weights=W), theirs, rows())


@backends
@every
def test_equal_weights_change_nothing(which: Case, backend: Any) -> None:
    for reduction in ("mean", "mean_active", "sum"):
        loss = module_of(which, reduction=reduction, backend=backend)
        factor = 2.5 if reduction == "sum" else 1.0
        assert_same(
            lambda q, c, loss=loss: loss(q, c, weights=torch.full((N,), 2.5)),
            lambda q, c, loss=loss, factor=factor: loss(q, c) * factor,
            rows(),
        )


@backends
def test_infonce_by_its_formula(backend: Any) -> None:
    def theirs(q: Tensor, c: Tensor) -> Tensor:
        z = F.normalize(q) @ F.normalize(c).T / 0.2
        target = torch.arange(N)
        sides = [F.cross_entropy(x, target, reduction="none") for x in (z, z.T[:N])]
        return sum((side * W).sum() / W.sum() for side in sides) / 2

    loss = InfoNCELoss(0.2, backend=backend)
    assert_same(lambda q, c: loss(q, c, weights=W), theirs, rows(11))
    leaves = [x.requires_grad_() for x in rows(11)]
    torch.autograd.gradcheck(lambda q, c: loss(q, c, weights=W), leaves)


@backends
@pytest.mark.parametrize("negatives", ["all", TopK(2), SemiHard()], ids=str)
@pytest.mark.parametrize("kind", [InfoNCELoss, SigmoidLoss])
def test_every_positive(kind: Any, negatives: Any, backend: Any) -> None:
    """The weight of a pair is that of its query."""
    chosen = {"positives": AllPositives(), "negatives": negatives, "directions": "queries"}
    told = {"query_ids": torch.tensor([0, 0, 1, 1, 1, 2, 9, 9]), "candidate_ids": IDS % 3}
    loss = kind(**chosen, backend=backend)
    terms = kind(**chosen, backend=backend, reduction="none")

    def theirs(q: Tensor, c: Tensor) -> Tensor:
        found, _ = terms(q, c, **told)
        w = W
        if kind is InfoNCELoss:
            related = told["query_ids"][:, None] == told["candidate_ids"]
            w = W[related.nonzero()[:, 0]]
        return (found * w).sum() / w.sum()

    assert_same(lambda q, c: loss(q, c, **told, weights=W), theirs, rows())


def test_a_weight_of_0_is_a_query_left_out() -> None:
    """NaN scores of the others' rows still make the loss NaN; terms of weight 0 do not count."""
    loss, keep = ContrastiveLoss(directions="queries", negatives="all"), W > 0
    q, c = rows()
    ignore = ~keep[:, None].expand(N, N)
    expected = loss(q, c, ignore_mask=ignore)
    torch.testing.assert_close(loss(q, c, weights=keep.double()), expected)
    assert loss(q, c, weights=torch.zeros(N)) == 0


def test_reduction_none_and_statistics() -> None:
    q, c = rows()
    terms = InfoNCELoss(reduction="none")(q, c)
    weighted = InfoNCELoss(reduction="none")(q, c, weights=W)
    for a, b in zip(weighted, terms, strict=True):
        torch.testing.assert_close(a, b * W)
    for loss in (InfoNCELoss(), ContrastiveLoss(), SigmoidLoss()):
        value, stats = loss(q, c, weights=W, return_stats=True)
        torch.testing.assert_close(value, loss(q, c, weights=W))
        assert stats.as_dict() == pytest.approx(loss(q, c, return_stats=True)[1].as_dict())


@backends
def test_with_scores_own_negatives_guides_and_prefixes(backend: Any) -> None:
    q, c = (F.normalize(x) for x in rows())
    own, loss = numbers(N * 2, 6, 5, torch.float64).view(N, 2, 6), InfoNCELoss(backend=backend)
    one = InfoNCELoss(backend=backend, reduction="none")
    told: dict[str, Any] = {"own_negatives": own, "guide": (q[:, :3], c[:, :3])}
    # the guide leaves a candidate without any negative
    mean = sum((part * W).sum() / W[part != 0].sum() for part in one(q, c, **told)) / 2
    torch.testing.assert_close(loss(q, c, **told, weights=W), mean)
    found = loss.from_scores(q @ c.T, weights=W)
    torch.testing.assert_close(found, loss(q, c, weights=W))
    both = loss(q, c, weights=W) + loss(q[:, :3], c[:, :3], weights=W)
    torch.testing.assert_close(Matryoshka(loss, (6, 3))(q, c, weights=W), both)


def test_one_graph_half_precision_and_no_gradient() -> None:
    torch.compiler.reset()
    compiled = torch.compile(InfoNCELoss(), backend="aot_eager", fullgraph=True)
    q, c = rows(dtype=torch.float32)
    torch.testing.assert_close(compiled(q, c, weights=W), InfoNCELoss()(q, c, weights=W))
    torch.compiler.reset()
    half = InfoNCELoss()(q.bfloat16(), c.bfloat16(), weights=W.bfloat16())
    assert half.dtype == torch.float32
    leaf = W.clone().requires_grad_()
    assert not InfoNCELoss()(q, c, weights=leaf).requires_grad


@pytest.mark.parametrize(
    ("weights", "options", "error", "message"),
    [
        ([1.0] * N, {}, TypeError, r"weights is a list: expected a tensor of shape \(8,\)"),
        (torch.ones(3), {}, ValueError, r"weights has shape \(3,\): expected \(8,\)"),
        (torch.ones(N, dtype=torch.long), {}, TypeError, "weights is torch.int64"),
        (torch.ones(N), {"positives": "all"}, ValueError, 'weights with positives="all" and directions=\'both\''),
    ],
)  # fmt: skip
def test_messages(weights: Any, options: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        InfoNCELoss(**options)(*rows(), query_ids=IDS, candidate_ids=IDS, weights=weights)
