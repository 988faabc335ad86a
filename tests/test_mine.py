"""``mine`` against a search that sorts every row of the whole matrix."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from hardneg import (
    Ceiling,
    DistanceWeighted,
    Hardest,
    Mined,
    RandomK,
    RankWindow,
    SemiHard,
    Tiled,
    TopK,
    mine,
)
from hardneg.negatives import Negatives
from hardneg.similarities import resolve_similarity

STRATEGIES = (
    Hardest(),
    TopK(4),
    TopK(3, Ceiling(0.95)),
    TopK(2, Ceiling(1.0, -0.1), "hardest"),
    RankWindow(2, 7),
    RankWindow(1, 3, Ceiling(), "easiest"),
    SemiHard(),
    TopK(5000),
)
SIMILARITIES = ("cosine", "dot", "euclidean", "order")


def naive(
    scores: Tensor,
    positive: list[set[int]],
    left_out: list[set[int]],
    negatives: Negatives,
    limits: tuple[float, float],
) -> list[list[int]]:
    """The definition, query by query."""
    selection = negatives.selection(0)
    assert selection is not None
    found = []
    for i, row in enumerate(scores.tolist()):
        free = [j for j in range(len(row)) if j not in positive[i] | left_out[i]]
        free.sort(key=lambda j: (-row[j], j))
        inside = [j for j in free if limits[0] < row[j] < limits[1]]
        if negatives.ceiling is not None and positive[i]:
            highest = torch.tensor(max(row[j] for j in positive[i]))
            bound = negatives.ceiling(highest).item() - 1e-9
            inside = [j for j in inside if row[j] < bound]
        chosen = inside[selection.skip : selection.k]
        if not chosen and selection.fallback != "none" and free:
            chosen = [free[-1] if selection.fallback == "easiest" else free[0]]
        found.append(chosen)
    return found


def lists(found: Mined) -> list[list[int]]:
    """The found indices without the places behind the last."""
    for row, count in zip(found.indices.tolist(), found.counts.tolist(), strict=True):
        assert all(j >= 0 for j in row[:count])
        assert all(j == -1 for j in row[count:])
    return [[j for j in row if j >= 0] for row in found.indices.tolist()]


@pytest.mark.parametrize("backend", ["auto", "tiled", Tiled((3, 5))], ids=str)
@pytest.mark.parametrize("similarity", SIMILARITIES)
@pytest.mark.parametrize("negatives", STRATEGIES, ids=str)
def test_equals_the_definition(negatives: Negatives, similarity: Any, backend: Any) -> None:
    g = torch.Generator().manual_seed(4)
    for n, m in ((6, 40), (17, 9), (1, 3)):
        q, c = (torch.rand(rows, 6, generator=g, dtype=torch.float64) for rows in (n, m))
        scores = resolve_similarity(similarity)(q, c)
        ids, other_ids = torch.arange(n) % 5, torch.arange(m) % 7
        listed = torch.randint(-1, m, (n, 2), generator=g)
        excluded = torch.randint(-1, m, (n, 3), generator=g)
        middle = scores.median().item()
        found = mine(
            q,
            c,
            negatives,
            similarity,
            query_ids=ids,
            candidate_ids=other_ids,
            positives=listed,
            exclude=excluded,
            max_score=middle + 0.2,
            backend=backend,
        )
        positive = [
            {j for j in range(m) if ids[i] == other_ids[j]} | set(listed[i].tolist()) - {-1}
            for i in range(n)
        ]
        left_out = [set(row.tolist()) for row in excluded]
        limits = -torch.inf, middle + 0.2
        assert lists(found) == naive(scores, positive, left_out, negatives, limits)
        there = found.indices >= 0
        rows = torch.arange(n)[:, None].expand_as(found.indices)
        torch.testing.assert_close(found.scores[there], scores[rows[there], found.indices[there]])
        assert (found.scores[~there] == -torch.inf).all()
        assert not found.scores.requires_grad


def test_without_ids_nothing_is_left_out() -> None:
    q, c = torch.randn(5, 8), torch.randn(11, 8)
    found = mine(q, c, TopK(11), "dot")
    assert found.indices.sort(dim=1).values.equal(torch.arange(11).expand(5, 11))
    assert found.counts.tolist() == [11] * 5
    assert found.scores.diff(dim=1).max() <= 0


def test_one_set_never_finds_itself() -> None:
    x = torch.randn(9, 4)
    found = mine(x, x, TopK(8), same_set=True)
    own = torch.arange(9)[:, None]
    assert (found.indices != own).all()
    assert found.counts.tolist() == [8] * 9
    with pytest.raises(ValueError, match="same_set=True"):
        mine(x, x, TopK(8))


@pytest.mark.parametrize("negatives", [RandomK(3), DistanceWeighted(k=3, nonzero_loss_cutoff=2.1)])
def test_random_choices_avoid_what_is_listed(negatives: Negatives) -> None:
    q, c = torch.randn(1, 4), torch.randn(12, 4)
    seen: set[int] = set()
    for _ in range(60):
        found = mine(q, c, negatives, exclude=torch.tensor([[0, 5, 7]]))
        chosen = set(found.indices[0].tolist())
        assert len(chosen) == 3
        seen |= chosen
    assert seen == set(range(12)) - {0, 5, 7}


def test_ties_go_to_the_smallest_index() -> None:
    c = torch.ones(20, 3)
    found = mine(torch.ones(2, 3), c, TopK(5), exclude=torch.tensor([[1], [-1]]))
    assert found.indices.tolist() == [[0, 2, 3, 4, 5], [0, 1, 2, 3, 4]]


def test_limits_are_strict() -> None:
    q, c = torch.ones(1, 1), torch.tensor([[1.0], [2.0], [3.0], [4.0]])
    found = mine(q, c, TopK(4), "dot", min_score=1.0, max_score=4.0)
    assert lists(found) == [[2, 1]]


def test_no_gradient_and_half_precision() -> None:
    q = torch.randn(6, 8, dtype=torch.bfloat16, requires_grad=True)
    c = torch.randn(30, 8, dtype=torch.bfloat16)
    found = mine(q, c, TopK(3))
    assert found.scores.dtype == torch.float32
    assert not found.scores.requires_grad
    expected = mine(q.double(), c.double(), TopK(3))
    assert found.indices.equal(expected.indices)


X, C = torch.randn(4, 8), torch.randn(9, 8)
MISTAKES: list[tuple[tuple[Any, ...], dict[str, Any], str]] = [
    ((X, C, "all"), {}, "needs a selection"),
    ((X, C, "selective"), {}, "selective"),
    ((X, C[:, :7], TopK(2)), {}, "project both"),
    ((X, C, TopK(2, Ceiling())), {}, "pass positives"),
    ((X, C, TopK(2)), {"query_ids": torch.arange(4)}, "without candidate_ids"),
    ((X, C, TopK(2)), {"positives": torch.tensor([0, 1, 2, 9])}, "row 9 of a corpus of 9"),
    ((X, C, TopK(2)), {"positives": torch.tensor([0, 1, -2, 3])}, "row -2"),
    ((X, C, TopK(2)), {"exclude": torch.zeros(3, 2).long()}, r"shape \(3, 2\)"),
    ((X, C, TopK(2)), {"exclude": torch.zeros(4, 2)}, "float32"),
    ((X, C, TopK(2)), {"min_score": 2.0, "max_score": 1.0}, "nothing lies between"),
    ((X, C, DistanceWeighted(), "dot"), {}, "unit vectors"),
]


@pytest.mark.parametrize(("arguments", "options", "message"), MISTAKES)
def test_mistakes(arguments: tuple[Any, ...], options: dict[str, Any], message: str) -> None:
    with pytest.raises((ValueError, TypeError), match=message):
        mine(*arguments, **options)
