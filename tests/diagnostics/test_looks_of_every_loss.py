"""Planted false negatives are found; every loss, and batches with nothing in them, can be looked at."""

from __future__ import annotations

import math

import pytest
import torch
from noisy_pairs import pairs
from torch.nn.functional import normalize

import hardneg
from hardneg import Ceiling, ContrastiveLoss, InfoNCELoss, SemiHard, SupConLoss, TopK, TripletLoss
from hardneg.diagnostics import Diagnostics, Histogram

# Likely false negatives


@pytest.mark.parametrize(
    "negatives", ["hardest", "all", TopK(2, Ceiling(0.9)), SemiHard()], ids=repr
)
@pytest.mark.parametrize("directions", ["both", "candidates"])
def test_planted_false_negatives_are_found(negatives: object, directions: str) -> None:
    queries, candidates = pairs(50, 50, 24, noise=0.5)
    planted = {(3, 40), (8, 21)}
    for i, j in planted:
        queries[j], candidates[j] = queries[i], candidates[i] * 2
    diagnostics = Diagnostics(every=1)
    loss = ContrastiveLoss(negatives=negatives, directions=directions)
    diagnostics.observe(loss, queries, candidates)
    found = diagnostics.false_negatives(10, margin=0.01)
    assert {(x.query, x.candidate) for x in found.found} == planted | {(j, i) for i, j in planted}
    assert all(x.positive == x.query and abs(x.excess) < 1e-5 for x in found.found)


def test_false_negatives_among_labels_bear_their_ids() -> None:
    x, labels = pairs()[0], torch.arange(60) // 3 + 100
    x = x.view(20, 3, -1)[:, :1].expand(-1, 3, -1).flatten(0, 1) + 0.05 * x
    labels[5] = 7
    diagnostics = Diagnostics(every=1)
    diagnostics.observe(SupConLoss(), x, labels)
    found = diagnostics.false_negatives()
    assert {(one.query, one.candidate) for one in found.found} == {(3, 5), (4, 5)}
    labels[4] = 7
    diagnostics.observe(SupConLoss(), x, labels)
    found = diagnostics.false_negatives()
    assert {(one.query, one.candidate) for one in found.found} == {(4, 3), (5, 3)}
    assert {row["candidate_text"] for row in found.table()} == {"id 101"}


def test_the_best_positive_is_what_a_false_negative_is_compared_with() -> None:
    x, labels = pairs()[0], torch.arange(60) // 4
    diagnostics = Diagnostics(every=1)
    diagnostics.observe(TripletLoss(), x, labels)
    found = diagnostics.false_negatives(1000, margin=0)
    scores = normalize(x) @ normalize(x).T
    own = labels[:, None] == labels
    best = torch.where(own.fill_diagonal_(False), scores, -2).max(1)
    above = (scores > best.values[:, None]) & (labels[:, None] != labels)
    assert 0 < found.total == int(above.sum(1).clamp(max=8).sum())
    assert all(one.positive == best.indices[one.query] for one in found.found)


# Every loss, and batches with nothing in them


LOSSES = [name for name in hardneg.__all__ if name.endswith("Loss")]


@pytest.mark.parametrize("name", LOSSES)
def test_every_loss(name: str) -> None:
    loss = getattr(hardneg, name)()
    queries, candidates = (normalize(x) for x in pairs(24, 24, 8))
    second = candidates if isinstance(loss, hardneg.losses.base.PairLoss) else torch.arange(24) // 2
    diagnostics = Diagnostics(every=1)
    for rows in (24, 1):
        for factor in (1.0, math.nan):
            seen = diagnostics.observe(loss, factor * queries[:rows], second[:rows])
            assert seen is not None
            assert seen.as_dict().keys() >= {"loss", "active_share", "hubs/skewness", "collapsed"}
    seen, single = diagnostics.history[0], diagnostics.history[2]
    assert all(math.isfinite(x) for x in seen.as_dict().values())
    assert seen.negatives.counts.sum() > 0
    assert single.negatives.counts.sum() == 0
    assert isinstance(seen.positives, Histogram)


def test_own_negatives_guides_weights_and_joint_directions() -> None:
    queries, candidates = pairs(20, 20, 8)
    own, guide = torch.randn(20, 2, 8), (queries[:, :3], candidates[:, :3])
    for directions in ("both", "joint"):
        loss = InfoNCELoss(0.1, directions=directions)
        diagnostics = Diagnostics(every=1)
        seen = diagnostics.observe(loss, queries, candidates, own_negatives=own, guide=guide)
        assert seen is not None
        assert math.isfinite(seen.loss)
        diagnostics.false_negatives()
    told = {"weights": torch.rand(20), "negatives": "semihard"}
    assert Diagnostics(every=1).observe(ContrastiveLoss(), queries, candidates, **told) is not None
