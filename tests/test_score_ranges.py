"""``min_score`` and ``max_score`` of a strategy: the same as leaving out the negatives that are not between."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from every_loss import BACKEND_IDS, BACKENDS, FIXED, Case, arguments, numbers, run
from torch import Tensor
from torch.nn import functional as F

import hardneg
from hardneg import (
    All,
    Ceiling,
    ContrastiveLoss,
    Cosine,
    Hardest,
    InfoNCELoss,
    RandomK,
    SelectiveHardest,
    SemiHard,
    TopK,
    TripletLoss,
)
from hardneg.negatives import Negatives, resolve_negatives
from hardneg.similarities import resolve_similarity

SHARES = ({"min_score": 0.3, "max_score": 0.7}, {"max_score": 0.5}, {"min_score": 0.5})
FALLBACKS = ("none", "easiest", "hardest")


def bounds_at(shares: dict[str, float], scores: Tensor) -> dict[str, float]:
    """Bounds below which these shares of the scores lie, beside no score itself."""
    return {name: float(scores.quantile(share)) + 1e-6 for name, share in shares.items()}


def out_of(scores: Tensor, bounds: dict[str, float]) -> Tensor:
    """The definition: at the bounds or beyond."""
    low, high = bounds.get("min_score", -torch.inf), bounds.get("max_score", torch.inf)
    return (scores <= low) | (scores >= high)


def total(value: Any) -> Tensor:
    """One number of a loss, or of its terms."""
    parts = value if isinstance(value, tuple) else (value,)
    return torch.stack([part.sin().sum() for part in parts]).sum()


def assert_equal(found: Any, expected: Any, leaves: list[Tensor]) -> None:
    """Values and gradients."""
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-9)
    gradients = [
        torch.autograd.grad(total(x), leaves, allow_unused=True, retain_graph=True)
        for x in (found, expected)
    ]
    torch.testing.assert_close(*gradients, rtol=1e-8, atol=1e-9)


def ignored(which: Case, scores: Tensor, groups: list[Tensor], bounds: dict[str, float]) -> Tensor:
    """What a range leaves out, of what is a negative."""
    out = out_of(scores, bounds)
    if which.kind == "labelled":
        return out & (groups[0][:, None] != groups[0])
    return out & ~torch.eye(*scores.shape, dtype=torch.bool)


@pytest.mark.parametrize("backend", BACKENDS, ids=BACKEND_IDS)
@pytest.mark.parametrize("which", FIXED, ids=str)
def test_equals_an_ignore_mask(which: Case, backend: Any) -> None:
    strategy = resolve_negatives(which.negatives)
    if getattr(strategy, "fallback", "none") != "none":
        strategy = replace(strategy, fallback="none")
    embeddings, groups = arguments(which, n=9, m=9, dtype=torch.float64, seed=3)
    leaves = [x.requires_grad_() for x in embeddings]
    compare = resolve_similarity(which.similarity)
    scores = compare(leaves[0], leaves[-1]).detach()
    for shares in SHARES:
        bounds = bounds_at(shares, scores)
        out = ignored(which, scores, groups, bounds)
        assert out.any()
        ranged = replace(strategy, **bounds)
        for reduction in ("mean", "none"):  # the others are in the matrix
            found = run(
                which, leaves, groups, negatives=ranged, reduction=reduction, backend=backend
            )
            told = {"negatives": strategy, "reduction": reduction, "backend": "dense"}
            assert_equal(found, run(which, leaves, groups, ignore_mask=out, **told), leaves)


@pytest.mark.parametrize("backend", BACKENDS, ids=BACKEND_IDS)
@pytest.mark.parametrize("fallback", FALLBACKS)
def test_beside_a_ceiling_and_with_a_fallback(fallback: str, backend: Any) -> None:
    """Each pair's negatives lie below its ceiling and in the range; where none does the fallback disregards both."""
    x = numbers(14, 4, 2, torch.float64).requires_grad_()
    labels = torch.arange(14) % 4
    s = F.normalize(x) @ F.normalize(x).T
    rows = s.tolist()
    for strategy in (SemiHard(fallback), TopK(2, Ceiling(0.9), fallback)):
        k, ceiling = getattr(strategy, "k", 1), strategy.ceiling
        terms = []
        for i in range(14):
            negatives = [j for j in range(14) if labels[j] != labels[i]]
            ranked = sorted(negatives, key=lambda j: -rows[i][j])
            for p in range(14):
                if p == i or labels[p] != labels[i]:
                    continue
                bound = min(float(ceiling(s[i, p].detach())), 0.5)
                chosen = [j for j in ranked if -0.3 < rows[i][j] < bound][:k]
                if not chosen and fallback != "none":
                    chosen = ranked[:1] if fallback == "hardest" else ranked[-1:]
                terms += [(0.2 - s[i, p] + s[i, chosen]).relu().sum()]
        ranged = replace(strategy, min_score=-0.3, max_score=0.5)
        loss = TripletLoss(negatives=ranged, reduction="none", backend=backend)
        assert_equal(loss(x, labels)[0], torch.stack(terms), [x])
        loss = TripletLoss(negatives=ranged, reduction="sum", backend=backend)
        assert_equal(loss(x, labels), torch.stack(terms).sum(), [x])


@pytest.mark.parametrize("fallback", FALLBACKS)
@pytest.mark.parametrize("strategy", [Hardest(), TopK(3), RandomK(30)], ids=str)
def test_an_empty_range_follows_the_fallback(strategy: Negatives, fallback: str) -> None:
    q, c = numbers(8, 4, 0), numbers(8, 4, 1)
    ranged = replace(strategy, fallback=fallback, min_score=5.0)
    found = ContrastiveLoss(negatives=ranged)(q, c)
    s = (F.normalize(q) @ F.normalize(c).T).fill_diagonal_(torch.nan)
    negatives = s[~s.isnan()].view(8, 7), s.T[~s.T.isnan()].view(8, 7)
    p = (F.normalize(q) * F.normalize(c)).sum(1)
    one = {"none": None, "easiest": Tensor.amin, "hardest": Tensor.amax}[fallback]
    terms = [] if one is None else [(0.2 - p + one(x, 1)).relu().mean() for x in negatives]
    torch.testing.assert_close(found, torch.stack(terms).sum() if terms else torch.zeros(()))


@pytest.mark.parametrize("directions", ["both", "queries", "candidates"])
def test_the_mean_of_all_negatives_is_of_those_in_the_range(directions: str) -> None:
    q, c = (numbers(9, 4, seed, torch.float64).requires_grad_() for seed in (1, 2))
    bounds = {"min_score": -0.4, "max_score": 0.5}
    out = out_of(Cosine()(q, c).detach(), bounds) & ~torch.eye(9, dtype=torch.bool)
    told = {"directions": directions, "reduction": "none"}
    ranged = ContrastiveLoss(negatives=SelectiveHardest(1.0, **bounds), **told)
    plain = ContrastiveLoss(negatives=SelectiveHardest(1.0), **told)
    assert_equal(ranged(q, c), plain(q, c, ignore_mask=out), [q, c])


@pytest.mark.parametrize("share", [True, False])
@pytest.mark.parametrize("strategy", [All(), TopK(3), Hardest()], ids=str)
@pytest.mark.parametrize("kind", [InfoNCELoss, ContrastiveLoss])
def test_own_negatives(kind: type, strategy: Negatives, share: bool) -> None:
    """Shared and own negatives are in the range; exempt ones need only be above its floor."""
    q, c, own = (numbers(6 * k, 4, k, torch.float64) for k in (1, 1, 3))
    q, c = q.requires_grad_(), c.flip(0).requires_grad_()
    own = own.view(6, 3, 4).requires_grad_()
    s, of_own = Cosine()(q, c), Cosine()(q[:, None].flatten(0, 1), own.flatten(0, 1))
    of_own = torch.stack([of_own[i, 3 * i : 3 * i + 3] for i in range(6)])
    bounds = {"min_score": -0.5, "max_score": 0.4}
    loss = kind(negatives=strategy, directions="queries")
    ranged = kind(negatives=replace(strategy, **bounds), directions="queries")
    out = out_of(s.detach(), bounds) & ~torch.eye(6, dtype=torch.bool)
    for exempt in (False, True):
        of_range = bounds if not exempt else {"min_score": -0.5}
        out_own = out_of(of_own.detach(), of_range)
        assert out_own.any()
        told = {"own_negatives": own, "share_negatives": share}
        found = ranged(q, c, exempt_own_negatives=exempt, **told)
        expected = loss(q, c, ignore_mask=out, own_ignore_mask=out_own, **told)
        assert_equal(found, expected, [q, own])


@pytest.mark.parametrize("negatives", [All(Ceiling(0.95)), All(), TopK(2)], ids=str)
def test_given_scores_and_a_guide(negatives: Negatives) -> None:
    q, c = (numbers(9, 4, seed, torch.float64).requires_grad_() for seed in (1, 2))
    guide = numbers(9, 3, 5), numbers(9, 3, 6)
    ranged = InfoNCELoss(negatives=replace(negatives, min_score=-0.4, max_score=0.5))
    found = ranged.from_scores(Cosine()(q, c))
    assert_equal(found, ranged(q, c), [q, c])
    out = out_of(Cosine()(q, c).detach(), {"min_score": -0.4, "max_score": 0.5})
    out &= ~torch.eye(9, dtype=torch.bool)
    expected = InfoNCELoss(negatives=negatives)(q, c, guide=guide, ignore_mask=out)
    assert_equal(ranged(q, c, guide=guide), expected, [q, c])


def test_one_softmax_over_three_kinds() -> None:
    """The range bounds the scores of queries with queries and of candidates with candidates too."""
    q, c = (numbers(9, 4, seed, torch.float64).requires_grad_() for seed in (1, 2))
    terms = []
    for i in range(9):
        rows = (
            Cosine()(q[i : i + 1], c)[0],
            Cosine()(q[i : i + 1], q)[0],
            Cosine()(c[i : i + 1], c)[0],
        )
        kept = [
            x
            for row in rows
            for j, x in enumerate(row)
            if j != i and -0.4 < float(x.detach()) < 0.5
        ]
        p = rows[0][i]
        terms.append(torch.stack([p, *kept]).div(0.1).logsumexp(0) - p / 0.1)
    strategy = All(min_score=-0.4, max_score=0.5)
    loss = InfoNCELoss(0.1, strategy, directions="joint")
    assert_equal(loss(q, c), torch.stack(terms).mean(), [q, c])


def test_compiled_and_in_lower_precision() -> None:
    q, c, labels = numbers(20, 8, 1), numbers(20, 8, 2), torch.arange(20) // 4
    for loss, given in (
        (ContrastiveLoss(negatives=TopK(2, max_score=0.4)), (q, c)),
        (InfoNCELoss(negatives=All(min_score=-0.3)), (q, c)),
        (TripletLoss(negatives=All(min_score=-0.3, max_score=0.6)), (q, labels)),
        (TripletLoss(negatives=SemiHard(min_score=-0.3)), (q, labels)),
    ):
        compiled = torch.compile(loss, fullgraph=True, backend="aot_eager")
        torch.testing.assert_close(compiled(*given), loss(*given))
        half = tuple(x.bfloat16() if x.is_floating_point() else x for x in given)
        same = tuple(x.float() if x.is_floating_point() else x for x in half)
        torch.testing.assert_close(loss(*half), loss(*same))


def test_mine_takes_the_narrower_bounds() -> None:
    q, corpus = numbers(6, 4, 1), numbers(40, 4, 2)
    expected = hardneg.mine(q, corpus, TopK(5), min_score=-0.2, max_score=0.5)
    for strategy, told in (
        (TopK(5, min_score=-0.2, max_score=0.5), {}),
        (TopK(5, max_score=0.5), {"min_score": -0.2, "max_score": 0.9}),
    ):
        found = hardneg.mine(q, corpus, strategy, **told)
        torch.testing.assert_close(found.indices, expected.indices)
    with pytest.raises(ValueError, match="nothing lies between"):
        hardneg.mine(q, corpus, TopK(5, max_score=0.1), min_score=0.3)


def test_what_is_printed_and_refused() -> None:
    assert repr(TopK(8)) == "TopK(k=8, ceiling=None, fallback='none')"
    assert repr(All(max_score=0.9)) == "All(ceiling=None, max_score=0.9)"
    assert TopK(8, max_score=0.9) != TopK(8)
    assert len({TopK(8, max_score=0.9), TopK(8, max_score=0.9)}) == 1
    for bounds, message in (
        ({"min_score": 0.9, "max_score": 0.2}, "nothing lies between"),
        ({"max_score": "0.9"}, "max_score"),
        ({"min_score": float("nan")}, "min_score"),
    ):
        with pytest.raises((TypeError, ValueError), match=message):
            TopK(8, **bounds)
