"""Statistics."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from every_loss import (
    Case,
    arguments,
    numbers,
    run,
    value_and_gradients,
)
from semantic_cases import (
    backends,
    every,
    resolve_negatives,
)
from torch import Tensor

from hardneg import (
    SemiHard,
    TopK,
)
from hardneg.functional import (
    contrastive_loss,
    triplet_loss,
)


def naive_statistics(
    scores: Tensor, terms: list[tuple[int, int, list[int], Tensor]]
) -> dict[str, float]:
    """From a list of (anchor, positive, negatives, values of the negatives)."""
    kept = [t for t in terms if t[2]]
    active = sum(int((values > 0).sum()) for *_, values in kept)
    considered = sum(len(values) for *_, values in kept)
    positive = sum(float(scores[a, p]) for a, p, *_ in kept) / len(kept)
    hardest = sum(float(scores[a, n].max()) for a, _, n, _ in kept) / len(kept)
    return {
        "active_fraction": active / considered,
        "positive_mean": positive,
        "hardest_negative_mean": hardest,
        "gap": positive - hardest,
    }


def unit_scores(a: Tensor, b: Tensor) -> Tensor:
    return F.normalize(a, dim=1) @ F.normalize(b, dim=1).T


@backends
@pytest.mark.parametrize("negatives", ["all", "hardest", TopK(2)])
def test_statistics_of_pairs(negatives: object, backend: object) -> None:
    queries, candidates = numbers(6, 4, 1, torch.float64), numbers(8, 4, 2, torch.float64)
    ids = torch.tensor([0, 0, 1, 2, 3, 4]), torch.tensor([0, 0, 1, 2, 3, 4, 4, 9])
    told = {"negatives": negatives, "backend": backend, "margin": 0.3}
    _, stats = contrastive_loss(
        queries, candidates, query_ids=ids[0], candidate_ids=ids[1], return_stats=True, **told
    )
    s = unit_scores(queries, candidates)
    free = ids[0][:, None] != ids[1][None]
    k = {"all": 8, "hardest": 1}.get(negatives, 2) if isinstance(negatives, str) else 2
    terms = []
    big = torch.zeros(14, 14, dtype=torch.float64)
    big[:6, 6:], big[6:, :6] = s, s.T
    for anchor in range(12):
        row = anchor if anchor < 6 else anchor - 6
        others = (
            [6 + j for j in range(8) if free[row, j]]
            if anchor < 6
            else [i for i in range(6) if free[i, row]]
        )
        own = 6 + row if anchor < 6 else row
        ranked = sorted(others, key=lambda j, a=anchor: -float(big[a, j]))[:k]
        values = 0.3 - big[anchor, own] + big[anchor, ranked]
        terms.append((anchor, own, ranked, values))
    expected = naive_statistics(big, terms)
    found = stats.as_dict()
    for name, value in expected.items():
        assert found[name] == pytest.approx(value), name
    assert found["masked_count"] == int((~free).sum()) - 6
    assert not stats.gap.requires_grad


@backends
@pytest.mark.parametrize("positives", ["all", "hardest", "easiest"])
@pytest.mark.parametrize("negatives", ["hardest", TopK(2), "all"])
def test_statistics_of_triplets(positives: str, negatives: object, backend: object) -> None:
    x, labels = numbers(9, 4, 1, torch.float64), torch.arange(9) // 3
    told = {"positives": positives, "negatives": negatives, "backend": backend, "margin": 0.3}
    _, stats = triplet_loss(x, labels, return_stats=True, **told)
    s = unit_scores(x, x)
    k = {"all": 9, "hardest": 1}.get(negatives, 2) if isinstance(negatives, str) else 2
    terms = []
    for a in range(9):
        own = [p for p in range(9) if p != a and labels[p] == labels[a]]
        if positives != "all":
            pick = min if positives == "hardest" else max
            own = [pick(own, key=lambda p, a=a: float(s[a, p]))]
        others = [n for n in range(9) if labels[n] != labels[a]]
        ranked = sorted(others, key=lambda n, a=a: -float(s[a, n]))[:k]
        terms += [(a, p, ranked, 0.3 - s[a, p] + s[a, ranked]) for p in own]
    expected = naive_statistics(s, terms)
    found = stats.as_dict()
    for name, value in expected.items():
        assert found[name] == pytest.approx(value), name
    assert found["masked_count"] == 0


@backends
@every
def test_statistics_are_finite_and_detached(which: Case, backend: object) -> None:
    embeddings, groups = arguments(which)
    leaves = [x.requires_grad_() for x in embeddings]
    torch.manual_seed(5)
    value, stats = run(which, leaves, groups, return_stats=True, backend=backend)
    expected, _ = value_and_gradients(which, embeddings, groups, backend=backend)
    torch.testing.assert_close(value.detach(), expected)
    for name, number in stats.as_dict().items():
        assert math.isfinite(number), name
        assert not getattr(stats, name).requires_grad
    assert 0 <= stats.active_fraction <= 1
    s = unit_scores(embeddings[0], embeddings[-1])
    if which.similarity == "cosine":
        assert s.min() - 1e-5 <= stats.hardest_negative_mean <= s.max() + 1e-5


@backends
@every
def test_the_means_are_over_all_negatives(which: Case, backend: object) -> None:
    """... whichever of them the loss uses, where no anchor is left out; classes are of one size here."""
    if resolve_negatives(which) == SemiHard("none") or "distance_weighted" in str(which):
        pytest.skip("the strategy leaves anchors out")
    embeddings, groups = arguments(which, n=9, m=11)
    told = {"return_stats": True, "directions": "queries", "backend": backend}
    _, stats = run(which, embeddings, groups, **told)
    x, y = embeddings[0], embeddings[-1]
    s = unit_scores(x, y) if which.similarity == "cosine" else -torch.cdist(x, y)
    own = torch.eye(9, 11, dtype=torch.bool)
    positive, negative = own, ~own
    if groups:
        kin = groups[0][:, None] == groups[0]
        positive, negative = kin & ~own[:, :9], ~kin
    of_anchor = {
        "hardest": s.masked_fill(~positive, math.inf).amin(1),
        "easiest": s.masked_fill(~positive, -math.inf).amax(1),
    }
    chosen = of_anchor.get(which.positives)
    mean = s[positive].mean() if chosen is None else chosen.mean()
    hardest = s.masked_fill(~negative, -math.inf).amax(1).mean()
    torch.testing.assert_close(stats.positive_mean, mean, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(stats.hardest_negative_mean, hardest, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(stats.gap, mean - hardest, rtol=1e-4, atol=1e-5)


@backends
@every
def test_statistics_do_not_depend_on_the_backend(which: Case, backend: object) -> None:
    embeddings, groups = arguments(which)
    torch.manual_seed(5)
    _, found = run(which, embeddings, groups, return_stats=True, backend=backend)
    torch.manual_seed(5)
    _, expected = run(which, embeddings, groups, return_stats=True, backend="dense")
    for name, number in expected.as_dict().items():
        assert found.as_dict()[name] == pytest.approx(number, rel=1e-4, abs=1e-5), name


@every
@backends
@pytest.mark.parametrize("number", [math.nan, math.inf])
def test_embeddings_that_are_no_numbers_leave_none(
    which: Case, backend: str, number: float
) -> None:
    """The loss is NaN, and so is what its statistics say of scores, whichever backend computes them."""
    embeddings, groups = arguments(which)
    embeddings[0][1] = number
    value, stats = run(which, embeddings, groups, return_stats=True, backend=backend)
    assert value.isnan()
    for name in ("active_fraction", "positive_mean", "hardest_negative_mean", "gap"):
        assert getattr(stats, name).isnan(), name
