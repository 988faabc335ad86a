"""The log-sum-exp kernels: results, largest exponents and gradients against float64, in Triton's interpreter."""

from __future__ import annotations

import pytest
import torch
from dense_case import DTYPES, SEEDS, SIMILARITIES, Case, assert_within_budget, case
from torch import Tensor

from hardneg.ops.comparison import Comparison, Relation, Window
from hardneg.ops.energies import CircleNegative, CirclePositive, Energy, Linear
from hardneg.ops.fused_backend import Fused
from hardneg.ops.requests import ExponentialTerms
from hardneg.ops.scores import Backend
from hardneg.similarities import Cosine, Dot

ENERGIES = (Linear(), Linear(3.0, 0.2), CircleNegative(0.25, 4.0), CirclePositive(0.25, 4.0))
AMONG = ("negatives", "positives")


def check(one: Case, energy: Energy, **fixed: str) -> None:
    """``logsumexp`` with random choices but for the ``fixed`` ones."""
    n, m = one.shape
    scale = one.rng.choice([None, torch.tensor(1.5), torch.tensor(-0.7)])
    told = {"among": one.rng.choice(AMONG), "window": one.rng.choice([Window(), one.window()])}
    told |= one.rng.choice([{}, {}, {"rows": False}, {"columns": False}]) | fixed
    weights = one.draw(n), one.draw(m)

    def run(backend: Backend, comparison: Comparison, leaves: list[Tensor]):
        scaled = None if scale is None else leaves[0]
        found = backend.scores(comparison).logsumexp(ExponentialTerms(energy, scale=scaled, **told))
        parts = [
            torch.where(x.isfinite(), x, 0.0).mul(w).sum()
            for x, w in zip(found[:2], weights, strict=True)
            if len(x)
        ]
        return torch.stack(parts).sum(), list(found), []

    assert_within_budget(run, one, [] if scale is None else [scale])


@pytest.mark.parametrize("energy", ENERGIES, ids=str)
@pytest.mark.parametrize("seed", SEEDS)
def test_random_cases(seed: int, energy: Energy) -> None:
    check(case(100 * seed + ENERGIES.index(energy)), energy)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("similarity", SIMILARITIES, ids=str)
def test_every_similarity_in_every_type(similarity: object, dtype: torch.dtype) -> None:
    check(case(21, similarity=similarity, dtype=dtype, shape=(26, 50, 7)), Linear())


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_tiles_without_a_positive(dtype: torch.dtype) -> None:
    """Only tiles on the diagonal have any; the others are not even scored."""
    one = case(13, similarity=Dot(), dtype=dtype, shape=(39, 70, 16), relation=Relation())
    check(one, Linear(), among="positives")


def test_large_exponents_do_not_overflow() -> None:
    """A temperature of 1/1000: exponents in the hundreds, of both signs."""
    one = case(4, similarity=Cosine(), dtype=torch.float32, shape=(41, 73, 21))

    def run(backend: Backend, comparison: Comparison, leaves: list[Tensor]):
        found = backend.scores(comparison).logsumexp(
            ExponentialTerms(Linear(), among="negatives", scale=leaves[0])
        )
        finite = [torch.where(x.isfinite(), x, 0.0).sum() for x in found[:2]]
        return finite[0] + finite[1], list(found), []

    assert_within_budget(run, one, [torch.tensor(1000.0)])


def test_of_nothing() -> None:
    """The only candidate is the anchor's own: -inf, and no gradient."""
    q = torch.randn(1, 3, requires_grad=True)
    found = (
        Fused().scores(Comparison(q, q, Dot(), Relation())).logsumexp(ExponentialTerms(Linear()))
    )
    assert [x.tolist() for x in found] == [[-torch.inf]] * 4
    gradient = torch.autograd.grad(found.rows.sum() + found.columns.sum(), q)[0]
    assert torch.equal(gradient, torch.zeros(1, 3))


def test_half_weights_stay_in_range() -> None:
    """Softmax weights of means are far below the smallest normal float16; their sums are not."""
    one = case(6, similarity=Dot(), dtype=torch.float16, shape=(26, 50, 7), relation=Relation())
    q, c = one.comparison.queries / 1000, one.comparison.candidates * 100

    def gradient(kind: torch.dtype) -> Tensor:
        leaf = q.to(kind).requires_grad_()
        comparison = Comparison(leaf, c.to(kind), Dot(), Relation())
        rows = Fused().scores(comparison).logsumexp(ExponentialTerms(Linear(), columns=False)).rows
        return torch.autograd.grad(rows, leaf, torch.full((26,), 1e-4))[0].float()

    half, full = gradient(torch.float16), gradient(torch.float32)
    assert (half - full).abs().max() <= 1e-3 * full.abs().max()
