"""``Matryoshka``: the sum of a loss over prefixes, for every loss, form of call and reduction."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from every_loss import BACKEND_IDS, BACKENDS, FIXED, Case, numbers
from torch import Tensor

from hardneg import ContrastiveLoss, InfoNCELoss, Learned, Matryoshka, TripletLoss

DIMS, WEIGHTS = (8, 5, 2), (1.0, 0.5, 0.25)


def module_of(which: Case, **options: Any) -> Any:
    return which.about.module(**dict(which.options), **options)


def inputs(which: Case) -> tuple[list[Tensor], dict[str, Tensor]]:
    x, ids = [numbers(9, 8, 0, torch.float64)], torch.arange(9) // 2
    if which.kind == "labelled":
        return x, {"labels": ids}
    x.append(numbers(9, 8, 1, torch.float64))
    return x, {"query_ids": ids, "candidate_ids": ids}


def assert_same(ours: Any, theirs: Any, embeddings: list[Tensor], tolerance: float = 1e-12) -> None:
    sides = [[x.clone().requires_grad_() for x in embeddings] for _ in range(2)]
    values = [f(*some) for f, some in zip((ours, theirs), sides, strict=True)]
    torch.testing.assert_close(*values, rtol=tolerance, atol=tolerance)
    totals = [torch.cat(v).sin().sum() if isinstance(v, tuple) else v for v in values]
    for a, b in zip(*map(torch.autograd.grad, totals, sides), strict=True):
        assert b.abs().max() > 0
        torch.testing.assert_close(a, b, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("backend", BACKENDS, ids=BACKEND_IDS)
@pytest.mark.parametrize("which", FIXED, ids=str)
def test_the_weighted_sum_of_every_loss(which: Case, backend: Any) -> None:
    embeddings, told = inputs(which)
    loss = module_of(which, backend=backend)
    found = Matryoshka(loss, DIMS, WEIGHTS)

    def theirs(*x: Tensor) -> Tensor:
        pairs = zip(DIMS, WEIGHTS, strict=True)
        return sum(w * loss(*(one[:, :d] for one in x), **told) for d, w in pairs)

    assert_same(lambda *x: found(*x, **told), theirs, embeddings)


@pytest.mark.parametrize("reduction", ["sum", "mean_active", "none"])
def test_every_reduction(reduction: Any) -> None:
    loss = ContrastiveLoss(reduction=reduction, negatives="all")

    def theirs(q: Tensor, c: Tensor) -> Any:
        found = [loss(q[:, :d], c[:, :d]) for d in DIMS]
        if reduction != "none":
            return sum(found)
        return tuple(sum(terms) for terms in zip(*found, strict=True))

    assert_same(Matryoshka(loss, DIMS), theirs, inputs(FIXED[0])[0])


def test_own_negatives_references_and_keywords_are_cut_too() -> None:
    q, c = (numbers(6, 8, seed, torch.float64) for seed in range(2))
    own = numbers(18, 8, 2, torch.float64).view(6, 3, 8)
    loss, triplets = InfoNCELoss(), TripletLoss()
    assert_same(
        lambda q, c, o: Matryoshka(loss, (8, 3))(queries=q, candidates=c, own_negatives=o),
        lambda q, c, o: (
            loss(q, c, own_negatives=o) + loss(q[:, :3], c[:, :3], own_negatives=o[..., :3])
        ),
        [q, c, own],
    )
    labels = torch.arange(6) // 2
    assert_same(
        lambda q, c: Matryoshka(triplets, (8, 3))(q, labels, c, labels),
        lambda q, c: triplets(q, labels, c, labels) + triplets(q[:, :3], labels, c[:, :3], labels),
        [q, c],
    )


def test_statistics_are_those_of_the_largest_width() -> None:
    q, c = inputs(FIXED[0])[0]
    loss = ContrastiveLoss()
    value, stats = Matryoshka(loss, (2, 8, 5))(q, c, return_stats=True)
    torch.testing.assert_close(value, Matryoshka(loss, (2, 8, 5))(q, c))
    _, expected = loss(q, c, return_stats=True)
    assert stats.as_dict() == expected.as_dict()


def test_parameters_are_shared_and_trained() -> None:
    loss = InfoNCELoss(Learned(0.07))
    found = Matryoshka(loss, (8, 3))
    assert list(found.parameters()) == list(loss.parameters())
    q, c = (numbers(6, 8, seed) for seed in range(2))
    found(q, c).backward()
    (parameter,) = loss.parameters()
    once = parameter.grad.clone()
    parameter.grad = None
    (loss(q, c) + loss(q[:, :3], c[:, :3])).backward()
    torch.testing.assert_close(once, parameter.grad)
    assert "dims=(8, 3), weights=(1.0, 1.0)" in repr(found)


def test_one_graph() -> None:
    loss = Matryoshka(InfoNCELoss(), (8, 3), (1.0, 0.5))
    torch.compiler.reset()
    compiled = torch.compile(loss, backend="aot_eager", fullgraph=True)
    assert_same(compiled, loss, [numbers(6, 8, seed) for seed in range(2)], 1e-5)
    torch.compiler.reset()


def test_half_precision_and_ids_of_the_positional_kind() -> None:
    x, labels = numbers(8, 8, 0, torch.bfloat16), torch.arange(8) // 2
    value = Matryoshka(TripletLoss(), (8, 4))(x, labels)
    assert value.dtype == torch.float32


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: Matryoshka(InfoNCELoss(), ()), ValueError, "dims are \\(\\): expected one width"),
        (lambda: Matryoshka(InfoNCELoss(), (4, 4)), ValueError, "expected one width or more, each once"),
        (lambda: Matryoshka(InfoNCELoss(), (4, 0)), ValueError, "a width among dims is 0"),
        (lambda: Matryoshka(InfoNCELoss(), (4, 2), (1.0,)), ValueError, "expected one weight a width"),
        (lambda: Matryoshka(InfoNCELoss(), (4,), (-1.0,)), ValueError, "a weight is -1.0: expected at least"),
        (lambda: Matryoshka(torch.nn.ReLU(), (4,)), TypeError, "expected a loss of this library"),
        (
            lambda: Matryoshka(InfoNCELoss(), (4, 9))(torch.randn(3, 8), torch.randn(3, 8)),
            ValueError,
            r"have shape \(3, 8\): expected at least 9 coordinates",
        ),
    ],
)  # fmt: skip
def test_messages(make: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        make()
