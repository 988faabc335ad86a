"""Inputs that want no gradient: the same values, the same gradients of the others, and no work for theirs."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import pytest
import torch
from every_loss import BACKENDS, FIXED, Case, numbers, squashed
from profiled import products
from torch import Tensor

import hardneg.functional as H
from hardneg import ContrastiveLoss, InfoNCELoss, Learned, SigmoidLoss, Tiled, TripletLoss
from hardneg.negatives.selection import Selection
from hardneg.ops.comparison import Comparison, Relation
from hardneg.ops.energies import Linear
from hardneg.ops.reference import Dense
from hardneg.ops.requests import ExponentialTerms, PenaltyTerms, Search
from hardneg.penalties import Hinge
from hardneg.similarities import Cosine

SIMILARITIES = ("cosine", "dot", "euclidean", "squared_euclidean", "order", squashed)


def run(which: Case, learnt: tuple[bool, bool], **options: Any) -> tuple[Tensor, list[Tensor]]:
    """The value, and the gradients of both sides; None for a frozen one."""
    n, m = 37, 53
    q, c = numbers(n, 5, 0).requires_grad_(learnt[0]), numbers(m, 5, 1).requires_grad_(learnt[1])
    groups = (torch.arange(n) * 9 // n, torch.arange(m) * 9 // m)
    value = which(q, c, *(groups if which.kind == "labelled" else ()), **options)
    value.backward()
    return value.detach(), [q.grad, c.grad]


def assert_only_the_learnt_side_differs(which: Case, **options: Any) -> None:
    value, both = run(which, (True, True), **options)
    for side in (0, 1):
        found, gradients = run(which, (side == 0, side == 1), **options)
        assert torch.equal(found, value)
        assert gradients[1 - side] is None
        torch.testing.assert_close(gradients[side], both[side], rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("backend", [*BACKENDS, Tiled((7, 9))], ids=str)
@pytest.mark.parametrize("which", FIXED, ids=str)
def test_every_loss_with_a_frozen_side(which: Case, backend: object) -> None:
    assert_only_the_learnt_side_differs(which, backend=backend)


@pytest.mark.parametrize("similarity", SIMILARITIES, ids=lambda s: getattr(s, "__name__", str(s)))
@pytest.mark.parametrize("negatives", ["all", "hardest"])
@pytest.mark.parametrize("backend", ["auto", Tiled((7, 9))], ids=str)
def test_every_similarity_with_a_frozen_side(
    similarity: object, negatives: str, backend: object
) -> None:
    which = Case("contrastive", "paired", (("negatives", negatives), ("similarity", similarity)))
    assert_only_the_learnt_side_differs(which, backend=backend)


@pytest.mark.parametrize("rows", [8, 300])
@pytest.mark.parametrize("width", [6, 40])
@pytest.mark.parametrize("loss", ["info_nce", "contrastive"])
def test_a_long_frozen_queue(loss: str, width: int, rows: int) -> None:
    """Few of the candidates are in a pair; the gradient of those that are, and of the rest, is exact."""
    g = torch.Generator().manual_seed(0)
    q, c = torch.randn(rows, width, generator=g), torch.randn(1501, width, generator=g)
    found = []
    for backend in ("dense", "tiled"):
        for frozen in (False, True):
            a, b = q.double().requires_grad_(), c.double().requires_grad_(not frozen)
            value = getattr(H, loss + "_loss")(a, b, directions="queries", backend=backend)
            value.backward()
            found.append((value.detach(), a.grad, b.grad))
    for value, of_queries, of_candidates in found[1:]:
        torch.testing.assert_close(value, found[0][0])
        torch.testing.assert_close(of_queries, found[0][1])
        if of_candidates is not None:
            torch.testing.assert_close(of_candidates, found[0][2])


LENGTHS = {"ordinary": 1.0, "a zero row": 0.0, "huge": 1e150, "tiny": 1e-160}


@pytest.mark.parametrize("length", LENGTHS)
@pytest.mark.parametrize("swapped", [False, True])
@pytest.mark.parametrize("tile", [None, (3, 17)], ids=str)
def test_few_rows_against_many(length: str, swapped: bool, tile: tuple[int, int] | None) -> None:
    """The many are not copied: their lengths divide the scores, unless a product might leave the range."""
    g = torch.Generator().manual_seed(1)
    few, many = (torch.randn(n, 12, generator=g, dtype=torch.float64) for n in (5, 90))
    many[3] *= LENGTHS[length]
    found = []
    for backend, frozen in itertools.product((Dense(), Tiled(tile)), (False, True)):
        q, c = few.clone().requires_grad_(), many.clone().requires_grad_(not frozen)
        relation = Relation(torch.arange(5) % 3, torch.arange(90) % 3)
        comparison = Comparison(q, c, Cosine(), relation)
        comparison = comparison.swapped() if swapped else comparison
        n, m = len(comparison.queries), len(comparison.candidates)
        sums = backend.scores(comparison).penalty_sum(
            PenaltyTerms(Hinge(), q.new_zeros(n), q.new_zeros(m))
        )
        exponents = backend.scores(comparison).logsumexp(ExponentialTerms(Linear(3.0)))
        value = sums.rows.sum() + sums.columns.sum() + exponents.rows.sum()
        picks = backend.scores(comparison).select(Search(Selection("highest", 3)))
        value.backward()
        found.append((value.detach(), picks.rows, picks.columns, q.grad, c.grad))
    for other in found[1:]:
        for x, y in zip(other, found[0], strict=True):
            if x is not None:
                torch.testing.assert_close(x, y, rtol=1e-9, atol=1e-12)


PASSES = {
    "InfoNCE": (InfoNCELoss(), 4),
    "InfoNCE, learnt temperature": (InfoNCELoss(Learned(0.07)), 4),
    "VSE0": (ContrastiveLoss(negatives="all"), 3),
    "sigmoid": (SigmoidLoss(), 3),
}


@pytest.mark.parametrize("frozen", ["queries", "candidates"])
@pytest.mark.parametrize("n", [64, 1100], ids=["single tile", "tiles"])
@pytest.mark.parametrize("name", PASSES)
def test_no_product_is_made_for_a_frozen_side(name: str, n: int, frozen: str) -> None:
    """A product of the size n x n x d less than where both are learnt."""
    loss, expected = PASSES[name]
    expected = 3 if n == 64 else expected  # a single tile keeps its scores for the backward
    d = 32

    def made(learnt: tuple[bool, bool]) -> float:
        g = torch.Generator().manual_seed(0)
        q, c = (torch.randn(n, d, generator=g).requires_grad_(on) for on in learnt)
        return products(lambda: loss(q, c).backward()) / (n * n * d)

    assert made((True, True)) == pytest.approx(expected, rel=0.02)
    learnt = (frozen != "queries", frozen != "candidates")
    assert made(learnt) == pytest.approx(expected - 1, rel=0.02)


@pytest.mark.parametrize("learnt", ["bias", "thresholds"])
def test_what_else_is_learnt_needs_no_product(learnt: str) -> None:
    """Frozen embeddings under a learnt bias or learnt thresholds: the scores, and nothing beyond."""
    n, d = 600, 32
    g = torch.Generator().manual_seed(0)
    q, c = torch.randn(n, d, generator=g), torch.randn(n, d, generator=g)

    def step() -> None:
        if learnt == "bias":
            bias = torch.zeros((), requires_grad=True)
            H.sigmoid_loss(q, c, bias=bias).backward()
            assert bias.grad is not None
        else:
            rows = torch.zeros(n, requires_grad=True)
            terms = PenaltyTerms(Hinge(), rows)
            comparison = Comparison(q, c, Cosine(), Relation(paired=True))
            Tiled().scores(comparison).penalty_total(terms, torch.ones(n)).value.backward()
            assert rows.grad is not None

    assert products(step) / (n * n * d) == pytest.approx(1, rel=0.02)


@pytest.mark.parametrize(
    "loss",
    [ContrastiveLoss(negatives="all"), TripletLoss(negatives="all"), SigmoidLoss()],
    ids=lambda loss: type(loss).__name__,
)
def test_a_total_of_frozen_embeddings_is_a_plain_sum(loss: Callable[..., Tensor]) -> None:
    """Outside ``no_grad``, where nothing wants a gradient: as much work as inside it."""
    n, d = 400, 16
    g = torch.Generator().manual_seed(0)
    x = torch.randn(n, d, generator=g)
    given = (x, torch.arange(n) // 4) if isinstance(loss, TripletLoss) else (x, x.flip(0))
    with torch.no_grad():
        expected = loss(*given)
        least = products(lambda: loss(*given))
    assert torch.equal(loss(*given).detach(), expected)
    assert products(lambda: loss(*given)) == least
