"""Truth from many to many, values by query, cut-offs, and metrics of given scores, against naive loops."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from hardneg.metrics import (
    from_scores,
    list_recall_at_k,
    map_at_k,
    map_at_r,
    mean_reciprocal_rank,
    ndcg,
    precision_at_k,
    r_precision,
    ranks,
    recall_at_k,
    success_at_k,
)


def order_of(scores: Tensor, relevant: list[int]) -> list[int]:
    """Candidates as they are retrieved; irrelevant ones first among ties."""
    row = scores.tolist()
    return sorted(range(len(row)), key=lambda j: (-row[j], j in relevant, j))


def naive(scores: Tensor, truth: Tensor, value: Callable[[list[bool], int], float]) -> list[float]:
    """A value of every query's retrieved list, and of its number of relevant candidates."""
    found = []
    for row, true in zip(scores, truth.bool(), strict=True):
        relevant = true.nonzero()[:, 0].tolist()
        hits = [j in relevant for j in order_of(row, relevant)]
        found.append(value(hits, len(relevant)) if relevant else math.nan)
    return found


def average_precision(hits: list[bool], r: int, cut: int) -> float:
    total = sum(sum(hits[: i + 1]) / (i + 1) for i in range(min(cut, len(hits))) if hits[i])
    return total / min(cut, r)


METRICS: dict[str, tuple[Any, dict[str, int], Callable[[list[bool], int], float]]] = {
    "map_at_k": (map_at_k, {"k": 4}, lambda hits, r: average_precision(hits, r, 4)),
    "map_at_1": (map_at_k, {"k": 1}, lambda hits, r: float(hits[0])),
    "map_at_r": (map_at_r, {}, lambda hits, r: average_precision(hits, r, r)),
    "precision": (precision_at_k, {"k": 3}, lambda hits, r: sum(hits[:3]) / 3),
    "precision of more": (precision_at_k, {"k": 50}, lambda hits, r: sum(hits) / 50),
    "recall": (list_recall_at_k, {"k": 3}, lambda hits, r: sum(hits[:3]) / r),
    "r_precision": (r_precision, {}, lambda hits, r: sum(hits[:r]) / r),
    "ndcg": (
        ndcg,
        {},
        lambda hits, r: (
            sum(1 / math.log2(i + 2) for i, hit in enumerate(hits) if hit)
            / sum(1 / math.log2(i + 2) for i in range(r))
        ),
    ),
}


def batch(seed: int) -> tuple[Tensor, Tensor, Tensor]:
    """Whole numbers, so that ties occur and scores are exact; the last query has no relevant candidate."""
    g = torch.Generator().manual_seed(seed)
    q, c = (torch.randint(-2, 3, (n, 3), generator=g).double() for n in (9, 14))
    truth = torch.rand(9, 14, generator=g) < 0.25
    truth[-1] = False
    return q, c, truth


@pytest.mark.filterwarnings("ignore:Sparse CSR")
@pytest.mark.parametrize("layout", ["bool", "float", "csr", "coo"])
@pytest.mark.parametrize("name", METRICS)
def test_truth_from_many_to_many(name: str, layout: str) -> None:
    metric, options, value = METRICS[name]
    for seed in range(3):
        q, c, truth = batch(seed)
        given: Tensor = truth if layout == "bool" else truth.float()
        given = {"csr": given.to_sparse_csr, "coo": given.to_sparse_coo}.get(
            layout, lambda x=given: x
        )()
        expected = torch.tensor(naive(q @ c.T, truth, value), dtype=torch.float64)
        chosen = {"relevance": given, "similarity": "dot", **options}
        found = metric(q, c, per_query=True, **chosen)
        torch.testing.assert_close(found, expected, equal_nan=True)
        assert metric(q, c, **chosen) == pytest.approx(expected.nanmean().item())


@pytest.mark.parametrize("name", METRICS)
def test_given_scores(name: str) -> None:
    metric, options, value = METRICS[name]
    q, c, truth = batch(5)
    scores = q @ c.T
    expected = torch.tensor(naive(scores, truth, value), dtype=torch.float64)
    for matrix in (scores, scores.float(), scores.bfloat16(), scores.T.contiguous().T):
        found = from_scores(metric, matrix, relevance=truth, per_query=True, **options)
        torch.testing.assert_close(found, expected, equal_nan=True)


def test_ranks_by_relevance_and_of_scores() -> None:
    q, c, truth = batch(1)
    scores = q @ c.T
    expected = []
    for row, true in zip(scores, truth, strict=True):
        best = row[true].max() if true.any() else None
        expected.append(-1 if best is None else int(((row >= best) & ~true).sum()))
    assert ranks(q, c, relevance=truth, similarity="dot").tolist() == expected
    assert from_scores(ranks, scores, relevance=truth).tolist() == expected
    ids = torch.arange(9) % 4
    other = torch.arange(14) % 5
    by_ids = ranks(q, c, ids, other, similarity="dot")
    assert from_scores(ranks, scores, ids, other).equal(by_ids)
    assert ranks(q, c, relevance=ids[:, None] == other, similarity="dot").equal(by_ids)


def test_ids_give_the_same_values_by_query() -> None:
    x = torch.randn(12, 4)
    labels = torch.arange(12) // 3
    for metric, options, _ in METRICS.values():
        values = metric(x, x, labels, same_set=True, per_query=True, **options)
        assert metric(x, x, labels, same_set=True, **options) == pytest.approx(values.mean().item())


def test_one_set_of_scores() -> None:
    x = torch.randn(8, 4, dtype=torch.float64)
    labels = torch.arange(8) // 2
    scores = x @ x.T
    found = from_scores(map_at_r, scores, labels, same_set=True)
    assert found == map_at_r(x, x, labels, same_set=True, similarity="dot")


def test_reciprocal_rank_at_k() -> None:
    found = torch.tensor([0, 1, 4, 9, -1])
    assert mean_reciprocal_rank(found, 5) == pytest.approx((1 + 1 / 2 + 1 / 5) / 4)
    assert success_at_k(found, 2) == recall_at_k(found, 2) == 0.5
    with pytest.raises(ValueError, match="k is 0"):
        mean_reciprocal_rank(found, 0)


MISTAKES: list[tuple[Callable[[], Any], str]] = [
    (lambda: ranks(X, X.clone(), LABELS, LABELS, relevance=TRUTH), "pass one of them"),
    (lambda: ranks(X, X.clone(), relevance=TRUTH[:3]), "has shape"),
    (lambda: map_at_k(X, X.clone(), k=0), "k is 0"),
    (lambda: precision_at_k(X, X.clone(), k=1, relevance=TRUTH & False), "no query"),
    (lambda: from_scores(ranks, [[1.0]]), "scores is a list"),
    (lambda: from_scores(ranks, torch.ones(3)), "n x m"),
    (lambda: from_scores(ranks, torch.ones(3, 2)), "3 queries but 2 candidates"),
]
X, LABELS, TRUTH = torch.randn(4, 3), torch.arange(4), torch.eye(4) > 0


@pytest.mark.parametrize(("call", "message"), MISTAKES)
def test_mistakes(call: Callable[[], Any], message: str) -> None:
    with pytest.raises((ValueError, TypeError), match=message):
        call()
