"""Losses over pairs and triplets that another miner listed, against pytorch-metric-learning's and plain loops."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from every_loss import BACKEND_IDS, BACKENDS, numbers
from pytorch_metric_learning import distances, losses, miners, reducers
from torch import Tensor
from torch.nn import functional as F

from hardneg import (
    CircleLoss,
    MarginLoss,
    MultiSimilarityLoss,
    NTXentLoss,
    PairwiseContrastiveLoss,
    SupConLoss,
    TripletLoss,
)

N, LABELS = 18, torch.arange(18) % 5
L2 = distances.LpDistance(normalize_embeddings=False)
SUM = reducers.SumReducer()
SIDES = [False, True]
PAIRS: dict[str, tuple[Any, Any]] = {
    "pairwise": (
        PairwiseContrastiveLoss(0.3, 2.0, penalty="hinge", reduction="mean_active"),
        losses.ContrastiveLoss(pos_margin=0.3, neg_margin=2.0, distance=L2),
    ),
    "pairwise, mean": (
        PairwiseContrastiveLoss(0.3, 2.0, penalty="hinge"),
        losses.ContrastiveLoss(0.3, 2.0, distance=L2, reducer=reducers.MeanReducer()),
    ),
    "NT-Xent": (NTXentLoss(0.3), losses.NTXentLoss(0.3)),
    "SupCon": (SupConLoss(0.3, reduction="sum"), losses.SupConLoss(0.3, reducer=SUM)),
    "circle": (CircleLoss(0.4, 8.0, reduction="sum"), losses.CircleLoss(0.4, 8.0, reducer=SUM)),
    "multi-similarity": (
        MultiSimilarityLoss(2.0, 10.0, 0.5, reduction="sum"),
        losses.MultiSimilarityLoss(2.0, 10.0, 0.5, reducer=SUM),
    ),
}


def embeddings(reference: bool) -> list[Tensor]:
    sides = [numbers(N, 6, 1, torch.float64), numbers(N, 6, 2, torch.float64)]
    return [x.requires_grad_() for x in sides[: 2 if reference else 1]]


def mined_pairs() -> tuple[Tensor, ...]:
    """Some pairs of rows; every anchor has a positive and a negative."""
    kept = torch.rand(N, N, generator=torch.Generator().manual_seed(3)) < 0.6
    same, rows = LABELS[:, None] == LABELS, torch.arange(N)
    for step in (5, -5):  # the nearest rows of its label
        kept[rows, (rows + step) % N] = True
    positive = (same & kept).fill_diagonal_(False)
    return (*positive.nonzero(as_tuple=True), *(~same & kept).nonzero(as_tuple=True))


def triplets(x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The triplets of pytorch-metric-learning's miner."""
    found: tuple[Tensor, Tensor, Tensor] = miners.TripletMarginMiner(0.5, "all", distance=L2)(
        x, LABELS
    )
    return found


def assert_equal(found: Any, expected: Any, leaves: list[Tensor]) -> None:
    """Values and gradients."""
    torch.testing.assert_close(found, expected, rtol=1e-7, atol=1e-8)
    gradients = [torch.autograd.grad(x, leaves, retain_graph=True) for x in (found, expected)]
    torch.testing.assert_close(*gradients, rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("backend", BACKENDS, ids=BACKEND_IDS)
@pytest.mark.parametrize("reference", SIDES)
@pytest.mark.parametrize("name", PAIRS)
def test_pairs_as_in_pytorch_metric_learning(name: str, reference: bool, backend: Any) -> None:
    ours, peer = PAIRS[name]
    ours.backend = backend
    sides, listed = embeddings(reference), mined_pairs()
    told = {"ref_emb": sides[1], "ref_labels": LABELS} if reference else {}
    found = ours.from_pairs(sides[0], *listed, *sides[1:])
    assert_equal(found, peer(sides[0], LABELS, listed, **told), sides)


@pytest.mark.parametrize("backend", BACKENDS, ids=BACKEND_IDS)
@pytest.mark.parametrize("reduction", ["mean", "mean_triplets", "mean_active", "sum"])
@pytest.mark.parametrize("smooth", [False, True])
def test_triplets_as_in_pytorch_metric_learning(smooth: bool, reduction: str, backend: Any) -> None:
    reducer = {"mean_active": reducers.AvgNonZeroReducer(), "sum": SUM}.get(
        reduction, reducers.MeanReducer()
    )
    peer = losses.TripletMarginLoss(0.2, smooth_loss=smooth, distance=L2, reducer=reducer)
    penalty = "logistic" if smooth else "hinge"
    ours = TripletLoss(
        0.2, similarity="euclidean", penalty=penalty, reduction=reduction, backend=backend
    )
    (x,) = embeddings(False)
    listed = triplets(x.detach())
    assert len(listed[0]) > 20
    assert_equal(ours.from_triplets(x, *listed), peer(x, LABELS, listed), [x])


def test_margin_loss_of_triplets() -> None:
    """There a pair counts once a triplet: the sum is that of the pairs of all triplets."""
    (x,) = embeddings(False)
    listed = triplets(x.detach())
    peer = losses.MarginLoss(0.2, 1.2, distance=L2, reducer=SUM)
    ours = MarginLoss(0.2, 1.2, "all", reduction="sum")
    assert_equal(ours.from_triplets(x, *listed), peer(x, LABELS, listed), [x])


def test_terms_are_in_the_order_of_the_lists() -> None:
    (x,) = embeddings(False)
    a, p, n = (torch.tensor(rows) for rows in ([3, 3, 0, 17], [8, 8, 5, 2], [1, 1, 4, 9]))
    s = F.normalize(x) @ F.normalize(x).T
    found, none = TripletLoss(reduction="none").from_triplets(x, a, p, n)
    torch.testing.assert_close(found, (0.2 - s[a, p] + s[a, n]).relu())
    assert found[0] == found[1]
    assert none.numel() == 0
    once, _ = NTXentLoss(0.5, reduction="none").from_pairs(x, a[:1], p[:1], a[:1], n[:1])
    torch.testing.assert_close(once, F.softplus((s[3, 1] - s[3, 8]) / 0.5)[None])
    twice, _ = NTXentLoss(0.5, reduction="none").from_triplets(x, a[:2], p[:2], n[:2])
    logits = torch.stack([s[3, 8], s[3, 1], s[3, 1]]) / 0.5
    torch.testing.assert_close(twice, (logits.logsumexp(0) - logits[0]).expand(2))


@pytest.mark.parametrize("epsilon", [0.1, 0.3])
def test_epsilon_is_of_the_listed_pairs(epsilon: float) -> None:
    """All pairs listed are the batch itself."""
    (x,) = embeddings(False)
    same = LABELS[:, None] == LABELS
    lists = (
        (same & ~torch.eye(N, dtype=torch.bool)).nonzero(as_tuple=True),
        (~same).nonzero(as_tuple=True),
    )
    loss = MultiSimilarityLoss(epsilon=epsilon)
    assert_equal(loss.from_pairs(x, *lists[0], *lists[1]), loss(x, LABELS), [x])


@pytest.mark.parametrize("loss", [TripletLoss(), *(ours for ours, _ in PAIRS.values())], ids=repr)
def test_nothing_listed_is_0_with_a_graph(loss: Any) -> None:
    (x,) = embeddings(False)
    none = torch.empty(0, dtype=torch.long)
    value = loss.from_triplets(x, none, none, none)
    (gradient,) = torch.autograd.grad(value, x)
    assert value == 0
    assert gradient.abs().sum() == 0


def test_not_a_number_is_not_hidden() -> None:
    x = numbers(6, 4, 0)
    x[5] = torch.nan
    index = torch.arange(3)
    assert TripletLoss().from_triplets(x, index, index + 1, index + 2).isnan()


@pytest.mark.parametrize("loss", [TripletLoss(), NTXentLoss(), MultiSimilarityLoss()], ids=repr)
def test_compiled(loss: Any) -> None:
    x, lists = numbers(N, 6, 0), tuple(torch.arange(6) + k for k in (0, 5, 7))
    compiled = torch.compile(loss.from_triplets, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(compiled(x, *lists), loss.from_triplets(x, *lists))


INDEX = torch.arange(4)
MISTAKES = [
    ((INDEX, INDEX + 1, INDEX + 15), {}, "negatives has row numbers outside 0 to 17"),
    ((INDEX - 1, INDEX, INDEX), {}, "anchors has row numbers"),
    ((INDEX, INDEX[:3], INDEX), {}, "positives 3"),
    ((INDEX, INDEX.float(), INDEX), {}, "positives has shape"),
    ((INDEX, [1, 2, 3, 4], INDEX), {}, "positives is a list"),
    ((INDEX, INDEX, INDEX), {"directions": "both"}, "who is the anchor"),
]


@pytest.mark.parametrize("kind", [TripletLoss, NTXentLoss])
@pytest.mark.parametrize(("lists", "options", "message"), MISTAKES)
def test_mistakes(lists: Any, options: dict[str, Any], message: str, kind: Any) -> None:
    with pytest.raises((TypeError, ValueError), match=message):
        kind(**options).from_triplets(numbers(N, 4, 0), *lists)


def test_triplet_loss_takes_no_pairs() -> None:
    with pytest.raises(ValueError, match="use from_triplets"):
        TripletLoss().from_pairs(numbers(N, 4, 0), INDEX, INDEX, INDEX, INDEX)
