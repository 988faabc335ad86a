"""The penalty kernels: sums, counts, maxima and every gradient against float64, in Triton's interpreter."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from dense_case import DTYPES, SEEDS, SIMILARITIES, Case, assert_within_budget, case
from torch import Tensor

from hardneg.ops.comparison import Comparison, Relation, Window
from hardneg.ops.fused_backend import Fused
from hardneg.ops.requests import PenaltyTerms
from hardneg.ops.scores import Backend
from hardneg.penalties import Hinge, Identity, Logistic, Penalty, SquaredHinge
from hardneg.similarities import Cosine, Dot, Euclidean, Order

PENALTIES = (Hinge(), SquaredHinge(), Logistic(), Identity())
AMONG = ("negatives", "positives")


def check_sums(one: Case, penalty: Penalty, **fixed: str) -> None:
    """``penalty_sum`` with random choices but for the ``fixed`` ones."""
    n, m = one.shape
    sides = one.rng.choice([(True, True), (True, True), (True, False), (False, True)])
    scale = one.rng.choice([None, torch.tensor(1.7), torch.tensor(-0.8)])
    told = {"among": one.rng.choice(AMONG), "sign": one.rng.choice([1.0, -1.0])}
    told |= fixed
    window = one.rng.choice([Window(), one.window()])
    weights = one.draw(n), one.draw(m)
    factor = 1.0 if scale is None else scale
    given = [one.near_scores(k) * factor for k, on in zip((n, m), sides, strict=True) if on]

    def run(backend: Backend, comparison: Comparison, leaves: list[Tensor]):
        rest = iter(leaves)
        rows, columns = (next(rest) if on else None for on in sides)
        scaled = None if scale is None else next(rest)
        sums = backend.scores(comparison).penalty_sum(
            PenaltyTerms(penalty, rows, columns, scale=scaled, window=window, **told)
        )
        total = (sums.rows * weights[0]).sum() if sides[0] else torch.zeros(())
        if sides[1]:
            total = total + (sums.columns * weights[1]).sum()
        counts = [] if isinstance(penalty, Identity) else list(sums[2:4])
        return total, [*sums[:2], *sums[4:]], counts

    assert_within_budget(run, one, given + ([] if scale is None else [scale]))


@pytest.mark.parametrize("penalty", PENALTIES, ids=str)
@pytest.mark.parametrize("seed", SEEDS)
def test_sums(seed: int, penalty: Penalty) -> None:
    check_sums(case(100 * seed + PENALTIES.index(penalty)), penalty)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("similarity", SIMILARITIES, ids=str)
def test_every_similarity_in_every_type(similarity: object, dtype: torch.dtype) -> None:
    one = case(7, similarity=similarity, dtype=dtype, shape=(26, 50, 7))
    check_sums(one, Logistic())


@pytest.mark.parametrize("similarity", [Cosine(), Euclidean(), Order()], ids=str)
def test_tiles_without_a_positive(similarity: object) -> None:
    """Only tiles on the diagonal have any; the others are not even scored."""
    one = case(
        13, similarity=similarity, dtype=torch.float32, shape=(39, 70, 16), relation=Relation()
    )
    check_sums(one, Logistic(), among="positives")


def check_total(one: Case, penalty: Penalty, **told: object) -> None:
    """``penalty_total`` of both sides."""
    n, m = one.shape
    weights = one.draw(n).abs(), one.draw(m).abs()
    given = [one.near_scores(n), one.near_scores(m)]

    def run(backend: Backend, comparison: Comparison, leaves: list[Tensor]):
        found = backend.scores(comparison).penalty_total(
            PenaltyTerms(penalty, *leaves, **told), *weights
        )
        return 2 * found.value, [found.value, *found[3:]], list(found[1:3])

    assert_within_budget(run, one, given)


@pytest.mark.parametrize(
    ("similarity", "dtype", "penalty"),
    [
        (Cosine(), torch.bfloat16, Hinge()),
        (Cosine(), torch.float32, Hinge()),
        (Dot(), torch.float16, SquaredHinge()),
        (Euclidean(), torch.float16, Hinge()),
        (Order(), torch.bfloat16, Hinge()),
    ],
    ids=str,
)
def test_total(similarity: object, dtype: torch.dtype, penalty: Penalty) -> None:
    one = case(3, similarity=similarity, dtype=dtype, shape=(41, 73, 21), relation=Relation())
    check_total(one, penalty)


@pytest.mark.parametrize("maxima", [True, False])
@pytest.mark.parametrize("penalty", PENALTIES, ids=str)
@pytest.mark.parametrize("similarity", [Cosine(), Euclidean(), Order()], ids=str)
def test_total_with_and_without_maxima(similarity: object, penalty: Penalty, maxima: bool) -> None:
    """Several panels of several tiles, in both ways in which kernels reduce a tile."""
    one = case(19, similarity=similarity, shape=(41, 73, 21), relation=Relation())
    check_total(one, penalty, maxima=maxima)


def test_maxima_that_nobody_asked_for() -> None:
    """They are -inf; counts stay, and sums but for the order in which they add up."""
    one = case(23, similarity=Cosine(), dtype=torch.bfloat16, shape=(39, 70, 16))
    scores = Fused().scores(one.comparison)
    terms = PenaltyTerms(SquaredHinge(), one.draw(39), one.draw(70))
    asked, not_asked = (scores.penalty_sum(replace(terms, maxima=x)) for x in (True, False))
    for x, y in zip(asked[:4], not_asked[:4], strict=True):
        torch.testing.assert_close(x, y)
    assert all(x.isfinite().any() for x in asked[4:])
    assert all(x.eq(-torch.inf).all() for x in not_asked[4:])


def test_sums_of_one_pair_and_of_none() -> None:
    """The only candidate is the anchor's own: nothing is admitted."""
    q = torch.randn(1, 1)
    zero = torch.zeros(1)
    sums = (
        Fused()
        .scores(Comparison(q, q, Dot(), Relation()))
        .penalty_sum(PenaltyTerms(Hinge(), zero, zero))
    )
    assert [x.tolist() for x in sums] == [[0.0], [0.0], [0], [0], [-torch.inf], [-torch.inf]]


@pytest.mark.parametrize("length", [1e-3, 1.0, 1e3])
@pytest.mark.parametrize("share", [1e-6, 1.0])
def test_half_weights_stay_in_range(length: float, share: float) -> None:
    """1 / length of both sides and the anchors' weights may leave float16 where the gradient does not."""
    one = case(5, similarity=Cosine(), dtype=torch.float16, shape=(26, 50, 7), relation=Relation())
    q, c = (x.float() * length for x in (one.comparison.queries, one.comparison.candidates))
    q, c = q.half(), c.half()
    upstream = torch.full((26,), share * length)

    def gradient(kind: torch.dtype) -> Tensor:
        leaf = q.to(kind).requires_grad_()
        comparison = replace(one.comparison, queries=leaf, candidates=c.to(kind))
        sums = (
            Fused()
            .scores(comparison)
            .penalty_sum(PenaltyTerms(SquaredHinge(), torch.zeros(26), None))
        )
        return torch.autograd.grad(sums.rows, leaf, upstream)[0].float()

    half, full = gradient(torch.float16), gradient(torch.float32)
    assert (half - full).abs().max() <= 1e-3 * full.abs().max() + 6e-8  # the last digit of float16


def test_half_weights_of_rows_that_are_not_contiguous() -> None:
    """The bound that keeps weights in range is that of the embeddings, however they lie in memory."""
    q, c = torch.randn(64, 5), torch.randn(64, 5)
    for x in (q, c):
        x[:, 3:] *= 100  # far above what lies first in a transposed copy

    def gradient(x: Tensor, y: Tensor) -> Tensor:
        leaf = x.detach().requires_grad_()
        comparison = Comparison(leaf, y, Dot(), Relation())
        sums = (
            Fused()
            .scores(comparison)
            .penalty_sum(PenaltyTerms(SquaredHinge(), torch.zeros(64), None))
        )
        return torch.autograd.grad(sums.rows, leaf, torch.full((64,), 1e-6))[0]

    q, c = q.half(), c.half()
    assert torch.equal(gradient(q.T.contiguous().T, c.T.contiguous().T), gradient(q, c))


def test_the_same_bits_twice() -> None:
    one = case(17, similarity=Cosine(), dtype=torch.bfloat16, shape=(41, 73, 21))
    n, m = one.shape

    def once() -> tuple[Tensor, ...]:
        q = one.comparison.queries.detach().requires_grad_()
        c = replace(one.comparison, queries=q)
        thresholds = torch.linspace(-1, 1, n), torch.linspace(-1, 1, m)
        sums = Fused().scores(c).penalty_sum(PenaltyTerms(Logistic(), *thresholds))
        return sums.rows.detach(), *torch.autograd.grad(sums.rows.sum() + sums.columns.sum(), q)

    for first, second in zip(once(), once(), strict=True):
        assert torch.equal(first, second)
