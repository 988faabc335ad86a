"""Batch-all with the logistic penalty and many positives: interpolated between few thresholds, as the definition."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from hardneg import Tiled
from hardneg.functional import triplet_loss
from hardneg.negatives.ceiling import Ceiling
from hardneg.ops.comparison import Comparison, Relation
from hardneg.ops.reference import Dense
from hardneg.ops.requests import BatchAllTerms
from hardneg.ops.tiled import interpolation
from hardneg.penalties import Logistic
from hardneg.similarities import Cosine, Dot

EPSILON = {torch.float32: 2.0**-23, torch.float64: 2.0**-52}
CLASSES = {
    "two": torch.arange(96) % 2,
    "three, unequal": torch.cat([torch.zeros(60), torch.ones(30), torch.full((6,), 2)]).long(),
    "one row of its own": torch.cat([torch.arange(95) % 2, torch.tensor([7])]),
}


class Counted:
    """How many thresholds a row were taken one by one, of a block each."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.taken: list[int] = []
        inner = interpolation.one_by_one

        def one_by_one(penalty: Any, negatives: Tensor, thresholds: Tensor, *others: Any) -> Any:
            self.taken.append(thresholds.shape[1])
            return inner(penalty, negatives, thresholds, *others)

        monkeypatch.setattr(interpolation, "one_by_one", one_by_one)


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> Counted:
    return Counted(monkeypatch)


def embeddings(spread: float, seed: int = 0, rows: int = 96) -> Tensor:
    g = torch.Generator().manual_seed(seed)
    return spread * torch.randn(rows, 6, generator=g, dtype=torch.float64)


def results(x: Tensor, labels: Tensor, backend: object, **options: Any) -> tuple[Tensor, Tensor]:
    """The terms and the gradient of their weighted sum."""
    x = x.clone().requires_grad_()
    told = {"negatives": "all", "penalty": "logistic", "margin": 0.1, "backend": backend, **options}
    terms = triplet_loss(x, labels, **told)
    terms = terms[0] if isinstance(terms, tuple) else terms
    (
        terms * torch.linspace(0.5, 1.5, terms.numel(), dtype=terms.dtype).view_as(terms)
    ).sum().backward()
    assert x.grad is not None
    return terms.detach(), x.grad


@pytest.mark.parametrize("dtype", EPSILON, ids=str)
@pytest.mark.parametrize(
    ("reduction", "seeds"), [("none", (0, 1)), ("mean", (0,)), ("mean_active", (1,))], ids=str
)
@pytest.mark.parametrize("similarity", ["cosine", "dot", "euclidean", "squared_euclidean"])
@pytest.mark.parametrize("spread", [1e-3, 0.3, 1.0])
@pytest.mark.parametrize("labels", CLASSES)
def test_as_the_definition(
    labels: str,
    spread: float,
    similarity: str,
    reduction: str,
    seeds: tuple[int, ...],
    dtype: torch.dtype,
) -> None:
    """Every term to rounding of its own size, thresholds near together or apart."""
    options = {"similarity": similarity, "reduction": reduction}
    for seed in seeds:
        x = embeddings(spread, seed).to(dtype)
        found = results(x, CLASSES[labels], Tiled(), **options)
        rounded = results(x, CLASSES[labels], "dense", **options)
        exact = results(x.double(), CLASSES[labels], "dense", **options)
        for ours, theirs, right, floor in zip(found, rounded, exact, (0.0, 1.0), strict=True):
            size = torch.maximum(right.abs(), floor * right.abs().max())
            error = 2 * (theirs.double() - right).abs().max() + 64 * EPSILON[dtype] * size
            assert ((ours.double() - right).abs() <= error).all()


@pytest.mark.parametrize("scale", [0.01, 0.1, 0.3, 10.0])
def test_thresholds_one_by_one_are_few(scale: float, counted: Counted) -> None:
    """Where the scores of 400 positives reach further there are more intervals."""
    labels = torch.arange(800) % 2
    results(embeddings(scale**0.5, rows=800), labels, Tiled(), similarity="dot")
    if scale == 10.0:
        assert not counted.taken
    else:
        assert counted.taken
        assert max(counted.taken) <= 200
    counted.taken.clear()
    results(embeddings(1.0, rows=800), labels, Tiled())
    assert counted.taken
    assert max(counted.taken) <= 30


@pytest.mark.parametrize("half", [2.0**-10, 0.01, 0.3, 1.0])
@pytest.mark.parametrize("dtype", EPSILON, ids=str)
def test_enough_nodes(dtype: torch.dtype, half: float) -> None:
    """A single score anywhere: value and slope at any threshold, relative to themselves."""
    levels = torch.linspace(0, 6 * half, 4001, dtype=torch.float64)[None]
    count = interpolation.nodes_needed(half, EPSILON[dtype])
    between = interpolation.Interpolation(levels, half, 3, count)
    for score in (-60.0, -5.0, 0.0, half, 4 * half, 3.0, 50.0):
        for phi in (Logistic().value, Logistic().slope):
            found = between.at_thresholds(phi(score - between.nodes().flatten())[None])
            error = (found - phi(score - levels)).abs() / phi(score - levels)
            rounding = 4 * count * EPSILON[torch.float64] * (1 + abs(score))
            assert error.max() <= 0.5 * EPSILON[dtype] + rounding


def test_the_transpose() -> None:
    levels = torch.rand(3, 50, dtype=torch.float64) * 4
    between = interpolation.Interpolation(levels, 1.0, 2, 9)
    values, weights = torch.randn(3, 18).double(), torch.randn(3, 50).double()
    forward = (between.at_thresholds(values) * weights).sum()
    torch.testing.assert_close(forward, (values * between.at_nodes(weights)).sum())


@pytest.mark.parametrize("dtype", EPSILON, ids=str)
def test_terms_that_underflow_are_not_counted(dtype: torch.dtype, counted: Counted) -> None:
    """Some exp(score - threshold) is 0: all thresholds are taken, so that the counts leave it out."""
    far = -math.log(torch.finfo(dtype).tiny) + 60
    labels = torch.arange(240) % 2
    labels[7] = 2
    scores = torch.rand(240, 240, generator=torch.Generator().manual_seed(1), dtype=dtype)
    scores[:, 7] -= far
    comparison = Comparison(scores, torch.eye(240, dtype=dtype), Dot(), Relation(labels, labels))
    found, expected = (
        backend.scores(comparison).batch_all(BatchAllTerms(Logistic(), 0.1))
        for backend in (Tiled(), Dense())
    )
    assert torch.equal(found.counts, expected.counts)
    torch.testing.assert_close(found.sums, expected.sums)
    assert not counted.taken


def test_ceilings_are_no_smooth_function_of_the_threshold(counted: Counted) -> None:
    labels, x = torch.arange(96) % 2, embeddings(1.0)
    comparison = Comparison(x, x, Cosine(), Relation(labels, labels, same_set=True))
    terms = BatchAllTerms(Logistic(), 0.1, Ceiling(1.0, 0.0))
    found, expected = (
        backend.scores(comparison).batch_all(terms) for backend in (Tiled(), Dense())
    )
    torch.testing.assert_close(found.sums, expected.sums)
    assert torch.equal(found.counts, expected.counts)
    assert not counted.taken


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_not_a_number_is_seen(bad: float) -> None:
    x = embeddings(1.0)
    x[5, 2] = bad
    for similarity in ("cosine", "dot", "euclidean"):
        terms, gradient = results(
            x, CLASSES["two"], Tiled(), similarity=similarity, reduction="mean"
        )
        assert terms.isnan().all()
        assert gradient.isnan().any()
