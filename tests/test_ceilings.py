"""A ceiling in every loss: the same as leaving out the negatives that are not below it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from every_loss import numbers
from torch import Tensor

from hardneg import (
    All,
    Ceiling,
    DistanceWeighted,
    Hardest,
    RandomK,
    RankWindow,
    SemiHard,
    TopK,
)
from hardneg import functional as H
from hardneg.ops.tiled_backend import Tiled

BACKENDS = ["dense", "auto", "tiled", Tiled((5, 7))]
CEILINGS = [Ceiling(), Ceiling(0.7, 0.05), Ceiling(1.0, -0.3), Ceiling(0.2)]
PAIRED = [(H.sigmoid_loss, {}), (H.sigmoid_loss, {"positives": "all"})]
LABELLED = [
    (H.sup_con_loss, {"temperature": 0.5}),
    (
        H.pairwise_contrastive_loss,
        {"similarity": "cosine", "positive_margin": 0.9, "negative_margin": 0.1},
    ),
    (H.margin_loss, {"beta": 1.2}),
    (H.multi_similarity_loss, {}),
    (H.multi_similarity_loss, {"epsilon": 0.3}),
    (H.circle_loss, {"gamma": 4.0}),
]
REDUCTIONS = ["mean", "sum", "mean_active", "none"]


def scores_of(loss: Any, x: Tensor, y: Tensor) -> Tensor:
    """In the similarity that the loss has by default."""
    return -torch.cdist(x, y) if loss is H.margin_loss else F.normalize(x) @ F.normalize(y).T


def not_below(s: Tensor, related: Tensor, own: Tensor | None, ceiling: Ceiling) -> Tensor:
    """The negatives that each row's ceiling leaves out: that of its own pair, else of its highest positive."""
    if own is not None:
        bound = ceiling(s[own].clone())
    else:
        bound = ceiling(s.masked_fill(~related, -torch.inf).amax(1))
        bound[~related.any(1)] = torch.inf  # nothing to relate to
    return ~related & (s >= bound[:, None] - 1e-9)


def assert_same(found: Any, expected: Any, leaves: list[Tensor]) -> None:
    """Values and gradients."""
    found, expected = (x if isinstance(x, tuple) else (x,) for x in (found, expected))
    for a, b in zip(found, expected, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-9)
    sums = [
        sum((x * torch.linspace(1, 2, x.numel())).sum() for x in side) for side in (found, expected)
    ]
    for a, b in zip(*(torch.autograd.grad(x, leaves) for x in sums), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-8, atol=1e-9)


@pytest.mark.parametrize("backend", BACKENDS, ids=str)
@pytest.mark.parametrize("ceiling", CEILINGS, ids=str)
@pytest.mark.parametrize(("loss", "options"), LABELLED)
def test_losses_on_labels(
    loss: Any, options: dict[str, Any], ceiling: Ceiling, backend: Any
) -> None:
    x = F.normalize(numbers(23, 4, 1, torch.float64)).detach().requires_grad_()
    labels = torch.arange(23) % 7
    labels[0] = 9  # no positive: no ceiling either
    related = (labels[:, None] == labels) & ~torch.eye(23, dtype=torch.bool)
    negative = labels[:, None] != labels
    out = not_below(scores_of(loss, x, x).detach(), related, None, ceiling) & negative
    assert out.any()
    for strategies in (All, Hardest, lambda ceiling=None: TopK(3, ceiling)):
        for reduction in REDUCTIONS:
            told = {"reduction": reduction, "backend": backend, **options}
            found = loss(x, labels, negatives=strategies(ceiling=ceiling), **told)
            expected = loss(
                x, labels, ignore_mask=out, negatives=strategies(), **{**told, "backend": "dense"}
            )
            assert_same(found, expected, [x])


@pytest.mark.parametrize("backend", BACKENDS, ids=str)
@pytest.mark.parametrize("fallback", ["easiest", "hardest"])
@pytest.mark.parametrize("epsilon", [0.1, 0.4])
def test_epsilon_beside_a_fallback(epsilon: float, fallback: str, backend: Any) -> None:
    """An anchor with no negative below its ceiling is mined as if the fallback were its only one."""
    x = F.normalize(numbers(23, 4, 1, torch.float64)).detach().requires_grad_()
    labels, ceiling = torch.arange(23) % 7, Ceiling(0.2, -0.95)
    related = (labels[:, None] == labels) & ~torch.eye(23, dtype=torch.bool)
    negative, s = labels[:, None] != labels, (x @ x.T).detach()
    out = not_below(s, related, None, ceiling) & negative
    none_below = (negative & ~out).sum(1) == 0
    assert 3 < none_below.sum() < 20
    lowest = s.masked_fill(~negative, torch.inf).argmin(1)
    fallen = lowest if fallback == "easiest" else s.masked_fill(~negative, -torch.inf).argmax(1)
    out[none_below, fallen[none_below]] = False
    told = {"epsilon": epsilon, "reduction": "none"}
    found = H.multi_similarity_loss(
        x, labels, negatives=TopK(3, ceiling, fallback), backend=backend, **told
    )
    expected = H.multi_similarity_loss(
        x, labels, negatives=TopK(3), ignore_mask=out, backend="dense", **told
    )
    assert_same(found, expected, [x])


def softened(s: Tensor, taken: Tensor, sharpness: float) -> Tensor:
    """One side of the multi-similarity loss, of the scores that take part."""
    x = (sharpness * (s - 0.5)).masked_fill(~taken, -torch.inf)
    return torch.cat([torch.zeros_like(x[:, :1]), x], 1).logsumexp(1) / abs(sharpness)


@pytest.mark.parametrize("backend", BACKENDS, ids=str)
@pytest.mark.parametrize("fallback", ["easiest", "hardest", "none"])
@pytest.mark.parametrize("epsilon", [-0.3, 0.1, 0.4])
@pytest.mark.parametrize("ceiling", [Ceiling(0.2, -0.95), Ceiling(0.2, -0.6), None], ids=str)
@pytest.mark.parametrize("strategy", [RankWindow(1, 3), RankWindow(12, 14), DistanceWeighted(k=22)])
def test_epsilon_beside_a_strategy_that_selects_nothing(
    strategy: Any, ceiling: Ceiling | None, epsilon: float, fallback: str, backend: Any
) -> None:
    """It falls back though negatives are below the ceiling, but not where epsilon alone leaves none."""
    x = F.normalize(numbers(23, 4, 1, torch.float64)).detach().requires_grad_()
    labels = torch.arange(23) % 7
    related = (labels[:, None] == labels) & ~torch.eye(23, dtype=torch.bool)
    unit, negative = F.normalize(x), labels[:, None] != labels
    s = unit @ unit.T
    out = not_below(s.detach(), related, None, ceiling) if ceiling else ~negative
    admitted = negative & ~out
    if isinstance(strategy, RankWindow):
        rank = s.detach().masked_fill(~admitted, -torch.inf).argsort(1, True).argsort(1)
        chosen = admitted & (rank >= strategy.start) & (rank < strategy.stop)
    else:
        chosen = admitted & ((2 - 2 * s.detach()).sqrt() < strategy.nonzero_loss_cutoff)
    empty = ~chosen.any(1)
    if fallback != "none":
        extreme = s.detach().masked_fill(~negative, torch.inf if fallback == "easiest" else -2)
        index = extreme.argmin(1) if fallback == "easiest" else extreme.argmax(1)
        single = F.one_hot(index, 23).bool() & empty[:, None]
        admitted, chosen = (torch.where(empty[:, None], single, x) for x in (admitted, chosen))
    top = s.detach().masked_fill(~admitted, -torch.inf).amax(1, keepdim=True)
    low = s.detach().masked_fill(~related, torch.inf).amin(1, keepdim=True)
    near, hard = related & (s < top + epsilon), chosen & (s > low - epsilon)
    terms = softened(s, near, -2.0) + softened(s, hard, 50.0)
    expected = torch.where(admitted.any(1), terms, 0.0)
    negatives = replace(strategy, ceiling=ceiling, fallback=fallback)
    told = {"epsilon": epsilon, "reduction": "none", "backend": backend}
    found, _ = H.multi_similarity_loss(x, labels, negatives=negatives, **told)
    assert_same(found, expected, [x])


@pytest.mark.parametrize("backend", BACKENDS, ids=str)
@pytest.mark.parametrize("ceiling", CEILINGS, ids=str)
@pytest.mark.parametrize("positives", ["paired", "all"])
@pytest.mark.parametrize("directions", ["queries", "candidates"])
def test_the_sigmoid_loss(directions: str, positives: str, ceiling: Ceiling, backend: Any) -> None:
    x, y = (numbers(17, 4, seed, torch.float64).requires_grad_() for seed in (1, 2))
    ids = torch.arange(17) if positives == "paired" else torch.arange(17) // 2
    s, related = scores_of(H.sigmoid_loss, x, y).detach(), ids[:, None] == ids
    if directions == "candidates":
        s, related = s.T, related.T
    own = (torch.arange(17),) * 2 if positives == "paired" else None
    out = not_below(s, related, own, ceiling)
    out = out.T if directions == "candidates" else out
    assert out.any()
    for strategies in (All, Hardest, lambda ceiling=None: TopK(3, ceiling)):
        for reduction in REDUCTIONS:
            told = {"query_ids": ids, "candidate_ids": ids, "positives": positives, "bias": -2.0}
            told |= {"directions": directions, "reduction": reduction}
            found = H.sigmoid_loss(
                x, y, negatives=strategies(ceiling=ceiling), backend=backend, **told
            )
            expected = H.sigmoid_loss(
                x, y, negatives=strategies(), ignore_mask=out, backend="dense", **told
            )
            assert_same(found, expected, [x, y])


@pytest.mark.parametrize("backend", BACKENDS, ids=str)
@pytest.mark.parametrize("ceiling", CEILINGS, ids=str)
@pytest.mark.parametrize("reduction", REDUCTIONS)
def test_a_softmax_over_all_negatives_under_the_ceiling_of_each_positive(
    reduction: str, ceiling: Ceiling, backend: Any
) -> None:
    x = numbers(23, 4, 3, torch.float64).requires_grad_()
    labels = torch.arange(23) % 6
    s = scores_of(H.nt_xent_loss, x, x) / 0.5
    terms, valid = [], []
    for i in range(23):
        for p in range(23):
            if i == p or labels[i] != labels[p]:
                continue
            below = (labels != labels[i]) & (
                s[i].detach() * 0.5 < ceiling(s[i, p].detach() * 0.5) - 1e-9
            )
            valid.append(bool(below.any()))
            lse = torch.logsumexp(torch.cat([s[i, p][None], s[i][below]]), 0)
            terms.append(lse - s[i, p])
    expected = torch.stack(terms)
    if reduction != "none":
        count = torch.tensor(valid).sum().clamp(min=1)
        expected = expected.sum() / (1 if reduction == "sum" else count)
    told = {
        "negatives": All(ceiling),
        "temperature": 0.5,
        "reduction": reduction,
        "backend": backend,
    }
    found = H.nt_xent_loss(x, labels, **told)
    assert_same(found[0] if reduction == "none" else found, expected, [x])
    pairs = H.info_nce_loss(
        x,
        x.clone(),
        query_ids=labels,
        candidate_ids=labels,
        positives="all",
        directions="queries",
        **told,
    )
    assert all(
        value.isfinite().all() for value in (pairs if isinstance(pairs, tuple) else (pairs,))
    )


@pytest.mark.parametrize("strategy", [SemiHard(), RandomK(2), RankWindow(1, 3)], ids=str)
@pytest.mark.parametrize(("loss", "options"), LABELLED + PAIRED)
def test_every_strategy_in_every_backend(loss: Any, options: dict[str, Any], strategy: Any) -> None:
    x, y = (numbers(15, 4, seed, torch.float64).requires_grad_() for seed in (4, 5))
    ids = torch.arange(15) // 3
    given = ((x, ids), {})
    if loss is H.sigmoid_loss:
        given = ((x, y), {"query_ids": ids, "candidate_ids": ids})
    found = []
    for backend in BACKENDS:
        torch.manual_seed(0)
        value = loss(*given[0], negatives=strategy, backend=backend, **given[1], **options)
        found.append((value.detach(), torch.autograd.grad(value, x)[0]))
    for other in found[1:]:
        for a, b in zip(other, found[0], strict=True):
            torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-9)
