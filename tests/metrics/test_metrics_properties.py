"""Properties."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from naive_metrics import (
    SIMILARITIES,
    label,
    sets,
)

from hardneg.metrics import (
    map_at_r,
    ndcg,
    ranks,
)
from hardneg.metrics import standings as standings_module
from hardneg.metrics.best_rank import best_ranks
from hardneg.metrics.ranking import make_ranking
from hardneg.metrics.relevance import by_ids
from hardneg.metrics.standings import standings
from hardneg.similarities import Dot


@settings(deadline=None, max_examples=60, derandomize=True)
@given(st.data())
def test_properties_of_ranks(data):
    n = data.draw(st.integers(1, 8))
    m = data.draw(st.integers(n, 20))
    d = data.draw(st.integers(1, 6))
    similarity = data.draw(st.sampled_from(["dot", "euclidean", "squared_euclidean", "order"]))
    seed = data.draw(st.integers(0, 10**6))
    generator = torch.Generator().manual_seed(seed)
    q, c = (torch.randint(-3, 4, (rows, d), generator=generator).float() for rows in (n, m))
    q_ids, c_ids = (torch.randint(0, 5, (rows,), generator=generator) for rows in (n, m))
    found = ranks(q, c, q_ids, c_ids, similarity=similarity)

    order = torch.randperm(m, generator=generator)
    assert torch.equal(ranks(q, c[order], q_ids, c_ids[order], similarity=similarity), found)

    other = torch.randperm(n, generator=generator)
    moved = ranks(q[other], c, q_ids[other], c_ids, similarity=similarity)
    assert torch.equal(moved, found[other])

    far = torch.cat([c, torch.randint(-50, 51, (1, d), generator=generator).float()])
    with_far = ranks(q, far, q_ids, torch.cat([c_ids, torch.tensor([9])]), similarity=similarity)
    assert ((with_far >= found) & (with_far <= found + 1))[found >= 0].all()
    assert torch.equal(with_far < 0, found < 0)


@pytest.mark.parametrize("similarity", SIMILARITIES, ids=label)
@pytest.mark.parametrize("rows", [1, 3, 16])
def test_panel_size_changes_nothing(similarity, rows, monkeypatch):
    generator = torch.Generator().manual_seed(2)
    x = torch.randint(-3, 4, (29, 4), generator=generator).double()
    labels = torch.randint(0, 3, (29,), generator=generator)
    order, relevant = make_ranking(x, x, similarity), by_ids(x, x, labels, None, True)
    best, whole = best_ranks(order, relevant), list(standings(order, relevant))
    monkeypatch.setitem(standings_module.PANEL_ELEMENTS, "cpu", rows * 29)
    parts = list(standings(order, relevant))
    assert (len(whole), len(parts)) == (1, -(-29 // rows))
    assert torch.equal(best_ranks(order, relevant), best)
    values = [torch.cat([b.positions[b.valid] for b in blocks]) for blocks in (whole, parts)]
    assert torch.equal(*values)


@pytest.mark.parametrize("similarity", ["dot", lambda q, c: q @ c.T], ids=label)
def test_autocast_changes_nothing(similarity):
    """A callable's products too: an evaluation often stands in the training's autocast region."""
    x, y, _, _ = sets(300, 300, 64)
    y = x + 4 * y
    expected = ranks(x, y, similarity=similarity)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(ranks(x, y, similarity=similarity), expected)


def test_best_only_is_the_first_of_the_standing():
    q, c, q_ids, c_ids = sets(31, 57, 4)
    order, relevant = make_ranking(q, c, Dot()), by_ids(q, c, q_ids, c_ids, False)
    (block,) = standings(order, relevant)
    first = torch.where(block.valid[:, 0], block.positions[:, 0], -1)
    assert torch.equal(first, best_ranks(order, relevant))


def test_inputs_are_left_alone_and_carry_no_gradient():
    q, c, q_ids, c_ids = sets(9, 14, 4)
    copies = q.clone(), c.clone(), q_ids.clone(), c_ids.clone()
    q.requires_grad_()
    for similarity in SIMILARITIES:
        found = ranks(q, c, q_ids, c_ids, similarity=similarity)
        map_at_r(q, c, q_ids, c_ids, similarity=similarity)
        ndcg(q, c, q_ids, c_ids, similarity=similarity)
        assert not found.requires_grad
    assert all(torch.equal(a, b) for a, b in zip(copies, (q, c, q_ids, c_ids), strict=True))
