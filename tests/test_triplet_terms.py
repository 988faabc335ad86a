"""Which triplets a mean is over, and which pair a term is: counted in plain Python."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from every_loss import BACKEND_IDS, BACKENDS, numbers
from pytorch_metric_learning import distances, losses, reducers
from torch import Tensor
from torch.nn import functional as F

from hardneg import (
    All,
    Ceiling,
    ContrastiveLoss,
    Hardest,
    InfoNCELoss,
    NTXentLoss,
    RankWindow,
    SemiHard,
    SupConLoss,
    TopK,
    TripletLoss,
)

STRATEGIES = (
    All(),
    All(Ceiling()),
    All(Ceiling(0.9), min_score=-0.4),
    All(max_score=0.3),
    Hardest(),
    TopK(3, Ceiling(0.9)),
    SemiHard(),
    SemiHard("none"),
    RankWindow(2, 30),
)
X, LABELS = numbers(17, 4, 1, torch.float64), torch.arange(17) % 5


def taken(strategy: Any, row: list[float], negatives: list[int], p: float) -> int:
    """How many negatives a pair takes whose positive scores p."""
    bound = torch.inf if strategy.ceiling is None else float(strategy.ceiling(torch.tensor(p)))
    low, high = strategy.score_range or (-torch.inf, torch.inf)
    inside = sum(1 for j in negatives if low < row[j] < min(high, bound - 1e-9))
    selection = strategy.selection(4)
    if selection is None:
        return inside
    chosen = max(0, min(inside, selection.k) - selection.skip)
    return 1 if not chosen and selection.fallback != "none" and negatives else chosen


@pytest.mark.parametrize("backend", ["auto", "tiled"])
@pytest.mark.parametrize("strategy", STRATEGIES, ids=str)
@pytest.mark.parametrize("positives", ["all", "hardest"])
def test_the_mean_over_triplets_of_labels(positives: str, strategy: Any, backend: Any) -> None:
    s = (F.normalize(X) @ F.normalize(X).T).tolist()
    count = 0
    for i, row in enumerate(s):
        own = [j for j in range(17) if j != i and LABELS[j] == LABELS[i]]
        own = own if positives == "all" else [min(own, key=row.__getitem__)]
        negatives = [j for j in range(17) if LABELS[j] != LABELS[i]]
        count += sum(taken(strategy, row, negatives, row[p]) for p in own)
    x = X.clone().requires_grad_()
    told = {"positives": positives, "negatives": strategy, "backend": backend}
    found, total = (
        TripletLoss(**told, reduction=reduction)(x, LABELS)
        for reduction in ("mean_triplets", "sum")
    )
    weighted = TripletLoss(**told, reduction="mean_triplets")(x, LABELS, weights=torch.ones(17))
    for one in (found, weighted):
        torch.testing.assert_close(one, total / count, rtol=1e-9, atol=1e-12)
        gradients = [torch.autograd.grad(y, x, retain_graph=True)[0] for y in (one, total / count)]
        torch.testing.assert_close(*gradients, rtol=1e-8, atol=1e-12)


@pytest.mark.parametrize("backend", ["auto", "tiled"])
@pytest.mark.parametrize("strategy", STRATEGIES, ids=str)
@pytest.mark.parametrize("directions", ["queries", "candidates"])
def test_the_mean_over_triplets_of_pairs(directions: str, strategy: Any, backend: Any) -> None:
    q, c = (numbers(9, 4, seed, torch.float64).requires_grad_() for seed in (1, 2))
    ids = torch.arange(9) // 2
    s = F.normalize(q.detach()) @ F.normalize(c.detach()).T
    rows = (s if directions == "queries" else s.T).tolist()
    count = sum(
        taken(strategy, row, [j for j in range(9) if ids[j] != ids[i]], row[i])
        for i, row in enumerate(rows)
    )
    told = {"negatives": strategy, "directions": directions, "backend": backend}
    found, total = (
        ContrastiveLoss(**told, reduction=reduction)(q, c, query_ids=ids, candidate_ids=ids)
        for reduction in ("mean_triplets", "sum")
    )
    torch.testing.assert_close(found, total / max(count, 1), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("similarity", ["euclidean", "cosine"])
def test_equals_the_mean_reducer(similarity: str) -> None:
    """pytorch-metric-learning's own mean is over all triplets."""
    distance = {
        "euclidean": distances.LpDistance(normalize_embeddings=False),
        "cosine": distances.CosineSimilarity(),
    }[similarity]
    peer = losses.TripletMarginLoss(0.3, distance=distance, reducer=reducers.MeanReducer())
    ours = TripletLoss(0.3, "all", "all", similarity, reduction="mean_triplets")
    sides = [X.clone().requires_grad_() for _ in range(2)]
    values = ours(sides[0], LABELS), peer(sides[1], LABELS)
    torch.testing.assert_close(*values)
    torch.testing.assert_close(
        *(torch.autograd.grad(v, x)[0] for v, x in zip(values, sides, strict=True))
    )


def test_who_has_no_triplets_says_so() -> None:
    with pytest.raises(ValueError, match="not sums over"):
        SupConLoss(reduction="mean_triplets")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="no sum over triplets"):
        ContrastiveLoss(negatives="selective_hardest", reduction="mean_triplets")


def term_by_term(x: Tensor, pairs: Tensor, negative: Tensor) -> Tensor:
    """Each pair's cross-entropy against the negatives of its anchor."""
    s = F.normalize(x) @ F.normalize(x).T / 0.3
    return torch.stack(
        [F.softplus(s[a][negative[a]].logsumexp(0) - s[a, p]) for a, p in pairs.tolist()]
    )


@pytest.mark.parametrize("backend", BACKENDS, ids=BACKEND_IDS)
def test_terms_are_of_the_pairs_that_are_told(backend: Any) -> None:
    loss = NTXentLoss(0.3, reduction="none", backend=backend)
    pairs, none = loss.term_pairs(X, LABELS)
    assert none.shape == (0, 2)
    negative = LABELS[:, None] != LABELS
    torch.testing.assert_close(loss(X, LABELS)[0], term_by_term(X, pairs, negative))
    triplets = TripletLoss(0.2, "all", "all", reduction="none", backend=backend)
    s = F.normalize(X) @ F.normalize(X).T
    hinges = [(0.2 - s[a, p] + s[a][negative[a]]).relu().sum() for a, p in pairs.tolist()]
    torch.testing.assert_close(triplets(X, LABELS)[0], torch.stack(hinges))
    assert torch.equal(triplets.term_pairs(X, LABELS)[0], pairs)
    ignore = torch.rand(17, 17, generator=torch.Generator().manual_seed(0)) < 0.2
    assert len(loss.term_pairs(X, LABELS, ignore_mask=ignore)[0]) == len(
        loss(X, LABELS, ignore_mask=ignore)[0]
    )


def test_pairs_of_both_directions() -> None:
    q, c = numbers(6, 4, 1), numbers(8, 4, 2)
    ids = {
        "query_ids": torch.tensor([0, 0, 1, 2, 2, 3]),
        "candidate_ids": torch.tensor([0, 0, 1, 2, 2, 3, 3, 4]),
    }
    loss = InfoNCELoss(0.3, positives="all", reduction="none")
    found, pairs = loss(q, c, **ids), loss.term_pairs(q, c, **ids)
    assert [len(x) for x in found] == [len(x) for x in pairs]
    for some, names, others in zip(pairs, ids, reversed(ids), strict=True):
        assert torch.equal(ids[names][some[:, 0]], ids[others][some[:, 1]])
    with pytest.raises(ValueError, match="one term an anchor"):
        ContrastiveLoss().term_pairs(q, c)
