"""NaN and infinity."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from naive_metrics import (
    SIMILARITIES,
    label,
    naive_lists,
    naive_scores,
    sets,
)

from hardneg.metrics import (
    map_at_r,
    ndcg,
    r_precision,
    ranks,
)
from hardneg.metrics import standings as standings_module
from hardneg.metrics.ranking import make_ranking
from hardneg.metrics.relevance import by_ids
from hardneg.metrics.standings import standings
from hardneg.similarities import Dot, Order


@pytest.mark.parametrize(
    ("similarity", "broken"),
    [(similarity, torch.nan) for similarity in SIMILARITIES]
    # an infinite coordinate is legitimate under Order: infinitely specific
    + [(similarity, torch.inf) for similarity in SIMILARITIES[:4]],
    ids=label,
)
def test_broken_rows_count_against_the_model(similarity, broken):
    x = torch.eye(5) + 1
    y = x.clone()
    y[2, 0] = broken
    assert ranks(y, x, similarity=similarity)[2] == 4
    found = ranks(x, y, similarity=similarity)
    assert found[2] == 4 or broken == torch.inf
    if math.isnan(broken):
        clean = ranks(x, x.clone(), similarity=similarity)
        others = [0, 1, 3, 4]
        assert (found[others] >= clean[others]).all()
        assert (found[others] >= 1).all()


def test_one_nan_caption_of_five_ranks_its_image_last():
    images, captions = torch.eye(3), torch.eye(3).repeat_interleave(5, 0)
    captions[7, 1] = torch.nan
    ids = torch.arange(3)
    found = ranks(images, captions, ids, ids.repeat_interleave(5))
    assert found.tolist() == [1, 10, 1]
    back = ranks(captions, images, ids.repeat_interleave(5), ids)
    assert back.tolist() == [0] * 7 + [2] + [0] * 7


@pytest.mark.parametrize("classes", [2, 5])
@pytest.mark.parametrize("same_set", [True, False])
def test_nan_candidates_stand_last_where_they_are_relevant_and_first_elsewhere(same_set, classes):
    q, c, _, _ = sets(33, 47, 4)
    q_ids, c_ids = (torch.arange(rows) ** 2 % 17 % classes for rows in (33, 47))
    if same_set:
        c, c_ids = q, q_ids
    c[[1, 7, 31]] = torch.nan
    gains = (q_ids[:, None] == c_ids[None]).numpy().astype(float)
    scores = naive_scores(Dot(), q, c)
    scores = np.where(np.isnan(scores), np.where(gains > 0, -np.inf, np.inf), scores)
    ids, options = (q_ids, c_ids), {"similarity": "dot", "same_set": same_set}
    found = [metric(q, c, *ids, **options) for metric in (map_at_r, r_precision, ndcg)]
    assert found == pytest.approx(naive_lists(scores, gains, same_set), abs=1e-12)


def test_lists_with_an_infinitely_specific_item():
    """Its score is -inf as a candidate: behind every other one, and still an entry of the list."""
    x, _, labels, _ = sets(23, 1, 4)
    x[5, 1] = torch.inf
    labels = labels % 2
    with np.errstate(invalid="ignore"):  # the item beside itself
        scores = naive_scores(Order(), x, x)
    gains = (labels[:, None] == labels[None]).numpy().astype(float)
    told = {"similarity": "order", "same_set": True}
    found = [metric(x, x, labels, **told) for metric in (map_at_r, r_precision, ndcg)]
    assert found == pytest.approx(naive_lists(scores, gains, True), abs=1e-12)


def test_both_ways_of_counting_agree_on_broken_scores(monkeypatch):
    """Few thresholds are compared one by one, many are sorted: infinities and NaN stand alike in both."""
    x, y, _, _ = sets(10, 60, 3)
    ids = torch.arange(60) % 3

    def broken(q, c):
        scores = q @ c.T
        for step, value in ((7, torch.inf), (11, -torch.inf), (13, torch.nan)):
            scores.flatten()[::step] = value
        return scores

    order, relevant = make_ranking(x, y, broken), by_ids(x, y, ids[:10], ids, False)
    (many,) = standings(order, relevant)
    monkeypatch.setattr(standings_module, "FEW", 1000)
    (few,) = standings(order, relevant)
    assert many.positions.shape[1] > 8
    assert torch.equal(many.positions, few.positions)


def test_nan_in_lists():
    x = torch.eye(4).repeat(4, 1)
    labels = torch.arange(4).repeat(4)
    x[0, 0] = torch.nan
    assert map_at_r(x, x, labels, same_set=True) < 0.8
    assert 0 < ndcg(x, x, labels, same_set=True) < 1
    everything = torch.full_like(x, torch.nan)
    assert map_at_r(everything, everything, labels, same_set=True) == 0
    assert r_precision(everything, everything, labels, same_set=True) == 0
