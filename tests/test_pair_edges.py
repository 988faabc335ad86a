"""Edges of pairs: own pairs that are ignored, anchors with one kind of partner only, no ids, rows in a run."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from every_loss import BACKEND_IDS, BACKENDS, numbers
from torch import Tensor

import hardneg.functional as H
from hardneg import SelectiveHardest, Tiled
from hardneg.negatives.selection import Selection
from hardneg.ops.backends import bind
from hardneg.ops.comparison import Comparison, Relation
from hardneg.ops.energies import Linear
from hardneg.ops.reference import Dense
from hardneg.ops.requests import ExponentialTerms, PenaltyTerms, Search
from hardneg.ops.tiled.pair_scores import LARGE, Rows
from hardneg.penalties import Hinge, Identity, Logistic, SquaredHinge
from hardneg.similarities import BY_NAME, Dot

backends = pytest.mark.parametrize("backend", BACKENDS, ids=BACKEND_IDS)


@backends
@pytest.mark.parametrize("reduction", ["sum", "none", "mean_active"])
def test_an_ignored_own_pair_is_no_term(backend: Any, reduction: str) -> None:
    """Neither its value nor its count: not even that of a score of 0."""
    x, y = numbers(6, 4, 0), numbers(6, 4, 1)
    ignore = torch.zeros(6, 6, dtype=torch.bool)
    ignore[[1, 4], [1, 4]] = True
    chosen = {"temperature": 0.5, "bias": -1.0, "directions": "queries", "backend": backend}
    found = H.sigmoid_loss(x, y, ignore_mask=ignore, reduction=reduction, **chosen)
    z = F.normalize(x) @ F.normalize(y).T / 0.5 - 1.0
    own = torch.eye(6, dtype=torch.bool)
    positive = torch.where(own & ~ignore, F.softplus(-z), 0.0)
    negative = torch.where(~own, F.softplus(z), 0.0)
    if reduction == "none":
        torch.testing.assert_close(found[0], (positive + negative).sum(1))
    elif reduction == "sum":
        torch.testing.assert_close(found, (positive + negative).sum())
    else:
        torch.testing.assert_close(found, (positive + negative).sum() / 34)


@backends
@pytest.mark.parametrize("loss", [H.pairwise_contrastive_loss, H.margin_loss])
def test_statistics_of_pairs_are_over_anchors_with_both_kinds(loss: Any, backend: Any) -> None:
    """Means over anchors leave out one that has positives only, and one that has negatives only."""
    x = F.normalize(numbers(5, 3, 2))
    labels = torch.tensor([0, 0, 0, 1, 1])
    positives = labels[:, None] == labels[None]
    positives[4, 3] = False  # row 4 has negatives only
    ignore = torch.zeros(5, 5, dtype=torch.bool)
    ignore[0, 3:] = True  # row 0 has positives only
    _, stats = loss(
        x,
        positive_mask=positives,
        ignore_mask=ignore,
        negatives="all",
        same_set=True,
        return_stats=True,
        backend=backend,
    )
    s = -torch.cdist(x, x)
    own = torch.eye(5, dtype=torch.bool)
    kin, strangers = positives & ~own & ~ignore, ~positives & ~own & ~ignore
    both = kin.any(1) & strangers.any(1)
    assert both.tolist() == [False, True, True, True, False]
    means = torch.where(kin, s, 0.0).sum(1) / kin.sum(1).clamp(min=1)
    torch.testing.assert_close(stats.positive_mean, means[both].mean(), rtol=1e-5, atol=1e-6)
    hardest = s.masked_fill(~strangers, -torch.inf).amax(1)[both].mean()
    torch.testing.assert_close(stats.hardest_negative_mean, hardest, rtol=1e-5, atol=1e-6)


@backends
@pytest.mark.parametrize("value", [0.0, -0.5])
@pytest.mark.parametrize("loss", [H.info_nce_loss, H.sigmoid_loss])
def test_a_temperature_tensor_that_is_not_above_0_makes_the_loss_nan(
    loss: Any, value: float, backend: Any
) -> None:
    x, y = numbers(5, 4, 0), numbers(5, 4, 1)
    assert loss(x, y, temperature=torch.tensor(value), backend=backend).isnan()
    assert loss(x, y, temperature=torch.tensor(0.1), backend=backend).isfinite()


@pytest.mark.parametrize("offset", [0, 3, -2])
@pytest.mark.parametrize("tile", [None, (2, 3), (4, 4), (7, 1)])
def test_positives_without_ids_are_the_pairs_of_equal_numbers(
    tile: tuple[int, int] | None, offset: int
) -> None:
    """Wherever the diagonal crosses a tile."""
    x, y = numbers(7, 3, 0).double(), numbers(9, 3, 1).double()
    relation = Relation(row_offset=max(0, offset), column_offset=max(0, -offset))
    comparison = Comparison(x, y, Dot(), relation)
    tiled, dense = Tiled(tile).scores(comparison), Dense().scores(comparison)
    search = Search(Selection("highest", 2), "positives")
    terms = ExponentialTerms(Linear(), "positives")
    zeros = PenaltyTerms(Logistic(), torch.zeros(7).double(), torch.zeros(9).double(), "positives")
    for found, expected in (
        (tiled.select(search), dense.select(search)),
        (tiled.logsumexp(terms), dense.logsumexp(terms)),
        (tiled.penalty_sum(zeros), dense.penalty_sum(zeros)),
    ):
        for a, b in zip(found, expected, strict=True):
            torch.testing.assert_close(a, b)
    own = torch.arange(7) + offset
    inside = (own >= 0) & (own < 9)
    picked = tiled.select(search).rows
    assert torch.equal(picked[:, 0], torch.where(inside, own, -1))
    assert (picked[:, 1] == -1).all()


def test_rows_that_follow_one_another_are_not_copied() -> None:
    """Many rows only: of few the asking costs more than a copy."""
    many, few = torch.randn(LARGE // 8, 8), torch.randn(64, 8)
    index = torch.arange(100, 132)
    rows, run = Rows(many, 32).take(index)
    assert run == slice(100, 132)
    assert rows.data_ptr() == many[100:].data_ptr()
    for x, which in ((many, index.flip(0)), (many, index[[0, 0, 1]]), (few, torch.arange(3, 9))):
        rows, run = Rows(x, 32).take(which)
        assert run is None
        assert torch.equal(rows, x[which])
        assert rows.data_ptr() != x[which[0] :].data_ptr()


@pytest.mark.parametrize("similarity", ["cosine", "dot", "euclidean"])
def test_scores_and_gradients_of_pairs_in_a_run(similarity: str) -> None:
    """As of the same pairs in another order."""
    n, d = LARGE // 16, 16
    x, y = (torch.randn(n, d, requires_grad=True) for _ in range(2))
    comparison = Comparison(x, y, BY_NAME[similarity], Relation())
    scores, own = bind("tiled", comparison), torch.arange(1000, 9000)
    weights = torch.randn(8000)
    turned = own.flip(0)
    found = scores.pairs(own, own + 7)
    expected = scores.pairs(turned, turned + 7).flip(0)
    torch.testing.assert_close(found, expected)
    gradients = [torch.autograd.grad((s * weights).sum(), (x, y)) for s in (found, expected)]
    for a, b in zip(*gradients, strict=True):
        torch.testing.assert_close(a, b)
        assert untouched_outside(a, 1000, 9007)


def untouched_outside(gradient: Tensor, first: int, last: int) -> bool:
    """Whether nothing outside has a gradient."""
    return bool((gradient[:first] == 0).all()) and bool((gradient[last:] == 0).all())


@pytest.mark.parametrize("penalty", [Hinge(), SquaredHinge(), Logistic(), Identity()], ids=str)
@pytest.mark.parametrize("among", ["negatives", "positives"])
def test_terms_above_0_are_counted(penalty: Any, among: str) -> None:
    """Not the terms that are 0 or below, nor those left out; by rows and by columns."""
    x, y = numbers(7, 3, 0).double(), numbers(9, 3, 1).double()
    ids = torch.arange(7) // 2, torch.arange(9) // 3
    comparison = Comparison(x, y, Dot(), Relation(*ids))
    limits = torch.linspace(-1, 1, 7).double(), torch.linspace(1, -1, 9).double()
    terms = PenaltyTerms(penalty, *limits, among)
    expected = Dense().scores(comparison).penalty_sum(terms)
    scores, kin = x @ y.T, ids[0][:, None] == ids[1]
    taken = kin if among == "positives" else ~kin
    for tile in (None, (2, 4)):
        found = Tiled(tile).scores(comparison).penalty_sum(terms)
        value = penalty.value(scores - limits[0][:, None])
        assert torch.equal(found.row_counts, ((value > 0) & taken).sum(1))
        value = penalty.value(scores - limits[1])
        assert torch.equal(found.column_counts, ((value > 0) & taken).sum(0))
        for a, b in zip(found, expected, strict=True):
            torch.testing.assert_close(a, b)


@backends
@pytest.mark.parametrize("others", [1, 2, 3])
def test_the_mean_of_few_negatives(backend: Any, others: int) -> None:
    """The guard of ``SelectiveHardest`` takes the mean over an anchor's negatives, be it one."""
    x, y = numbers(6, 4, 0), numbers(6, 4, 1)
    own = torch.arange(6)
    ignore = ((own - own[:, None]) % 6) > others
    options = {"margin": 2.0, "ignore_mask": ignore, "reduction": "none", "directions": "queries"}
    found, _ = H.contrastive_loss(
        x, y, negatives=SelectiveHardest(threshold=9.0), backend=backend, **options
    )
    s = F.normalize(x) @ F.normalize(y).T
    z = (2.0 - s.diagonal()[:, None] + s).clamp(min=0)
    taken = ~ignore & ~torch.eye(6, dtype=torch.bool)
    assert (taken.sum(1) == others).all()
    torch.testing.assert_close(found, torch.where(taken, z, 0.0).sum(1) / others)
