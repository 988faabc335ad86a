"""``pair_scores`` by the kernels: values and gradients within the error budget, the same bits every time."""

from __future__ import annotations

import functools
import itertools
from dataclasses import replace

import pytest
import torch
from random_comparisons import DTYPES, SIMILARITIES, case
from rounding import assert_rounded
from torch import Tensor

from hardneg.ops.comparison import Comparison, Relation
from hardneg.ops.fused_backend import Fused
from hardneg.ops.reference import Dense
from hardneg.ops.scores import Backend
from hardneg.similarities import Cosine, Dot, Euclidean

KINDS = list(itertools.product(SIMILARITIES, DTYPES))
Found = tuple[Tensor, Tensor, Tensor]


def run(
    backend: Backend, comparison: Comparison, rows: Tensor, columns: Tensor, g: Tensor
) -> Found:
    """Scores and the gradients of both sides."""
    q, c = (
        x.detach().clone().requires_grad_() for x in (comparison.queries, comparison.candidates)
    )
    scores = backend.scores(replace(comparison, queries=q, candidates=c)).pairs(rows, columns)
    scores.backward(g.to(scores.dtype))
    assert q.grad is not None
    assert c.grad is not None
    return scores.detach(), q.grad, c.grad


@pytest.mark.parametrize("seed", range(18))
def test_scores_and_gradients(seed: int) -> None:
    """Repeated pairs, pairs of nobody, rows that no pair names, a zero row, equal rows."""
    one = case(200 + seed, *KINDS[seed])
    q, c = one.comparison.queries.clone(), one.comparison.candidates.clone()
    q[0] = 0
    c[-1] = q[-1]
    n, m, g = len(q), len(c), one.generator
    rows, columns = (
        torch.randint(-1, n, (70,), generator=g),
        torch.randint(-1, m, (70,), generator=g),
    )
    rows[:30], rows[-1], columns[-1] = n // 2, n - 1, m - 1
    upstream = torch.randn(70, generator=g)
    comparison = replace(one.comparison, queries=q, candidates=c)
    double = replace(comparison, queries=q.double(), candidates=c.double())
    told = rows, columns, upstream
    found, again = run(Fused(), comparison, *told), run(Fused(), comparison, *told)
    for what, x, y in zip(("scores", "dq", "dc"), found, again, strict=True):
        assert torch.equal(x, y), what
        assert x.dtype == (torch.float32 if what == "scores" else q.dtype)
    assert_rounded(found, run(Dense(), comparison, *told), lambda: run(Dense(), double, *told))


def test_no_pairs() -> None:
    none = torch.empty(0, dtype=torch.long)
    comparison = Comparison(torch.randn(3, 2), torch.randn(4, 2), Cosine(), Relation())
    scores, dq, dc = run(Fused(), comparison, none, none, torch.empty(0))
    assert scores.shape == (0,)
    assert torch.equal(dq, torch.zeros(3, 2))
    assert torch.equal(dc, torch.zeros(4, 2))


@pytest.mark.parametrize("factor", [1e-30, 1e30])
def test_huge_and_tiny_rows(factor: float) -> None:
    """Squares of their entries leave the range of float32; the cosine does not."""
    q, c = torch.randn(6, 5), torch.randn(6, 5)
    rows = torch.arange(6)
    expected = torch.nn.functional.cosine_similarity(q.double(), c.double())
    comparison = Comparison(q * factor, c / factor, Cosine(), Relation())
    scores, _, dc = run(Fused(), comparison, rows, rows, torch.ones(6))
    assert (scores - expected).abs().max() < 1e-6
    assert dc.isfinite().all()


def test_long_rows_take_several_programs() -> None:
    """More coordinates than a block of any kernel holds."""
    q, c = torch.randn(4, 700), torch.randn(5, 700)
    rows, columns = torch.tensor([0, 3, 3, 1]), torch.tensor([4, 4, 0, 2])
    for similarity in (Dot(), Cosine(), Euclidean()):
        comparison = Comparison(q, c, similarity, Relation())
        double = Comparison(q.double(), c.double(), similarity, Relation())
        told = rows, columns, torch.randn(4)
        found, eager = (run(backend, comparison, *told) for backend in (Fused(), Dense()))
        assert_rounded(found, eager, functools.partial(run, Dense(), double, *told))


def test_a_second_derivative_raises() -> None:
    q, c = torch.randn(3, 2, requires_grad=True), torch.randn(4, 2)
    comparison = Comparison(q, c, Dot(), Relation())
    scores = Fused().scores(comparison).pairs(torch.tensor([0]), torch.tensor([1]))
    (dq,) = torch.autograd.grad(scores.sum(), q, create_graph=True)
    with pytest.raises(RuntimeError, match="second derivative"):
        dq.sum().backward()
