"""Random negatives."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from reduction_cases import TILES, name_of, tiled
from torch import Tensor

from hardneg.negatives.selection import Selection
from hardneg.ops.comparison import Comparison, Relation
from hardneg.ops.reference import Dense
from hardneg.ops.requests import (
    Search,
)
from hardneg.ops.scores import Backend
from hardneg.ops.tiled_backend import Tiled
from hardneg.similarities import Cosine, Dot, Euclidean, SquaredEuclidean


def chi_square(counts: Tensor, expected: Tensor) -> float:
    """How many standard deviations the statistic is above what chance gives."""
    statistic = ((counts - expected).square() / expected).sum().item()
    freedom = len(counts) - 1
    return (statistic - freedom) / (2 * freedom) ** 0.5


def on_sphere(n: int, m: int, d: int = 6, similarity: object = None) -> Comparison:
    g = torch.Generator().manual_seed(3)
    q, c = (F.normalize(torch.randn(k, d, generator=g, dtype=torch.float64)) for k in (n, m))
    ids = torch.randint(0, 5, (n,), generator=g), torch.randint(0, 5, (m,), generator=g)
    return Comparison(q, c, similarity or Cosine(), Relation(*ids))


RANDOM = [Selection("random", 3), Selection("distance_weighted", 3, 0, (6.0, 0.5, 1.4))]


@pytest.mark.parametrize("selection", RANDOM, ids=lambda s: s.order)
def test_draws_are_a_matter_of_the_seed_alone(selection: Selection) -> None:
    comparison = on_sphere(40, 90)
    seed = torch.tensor(123456789)
    expected = Dense().scores(comparison).select(Search(selection, seed=seed))
    for tile in TILES:
        found = tiled(comparison, tile).scores(comparison).select(Search(selection, seed=seed))
        assert all(torch.equal(x, y) for x, y in zip(found, expected, strict=True))
    other = Dense().scores(comparison).select(Search(selection, seed=seed + 1))
    assert (other.rows != expected.rows).float().mean() > 0.5
    square = on_sphere(40, 40).among(row_ids=None, column_ids=None)
    both = Dense().scores(square).select(Search(selection, seed=seed))
    assert (both.rows != both.columns).float().mean() > 0.5  # the directions draw apart
    # A part of the candidates, told where it starts, draws as the whole does.
    ids = comparison.relation.row_ids, comparison.relation.column_ids
    part = Comparison(
        comparison.queries[10:],
        comparison.candidates,
        Cosine(),
        Relation(ids[0][10:], ids[1], row_offset=10),
    )
    assert torch.equal(
        Tiled((4, 9)).scores(part).select(Search(selection, seed=seed)).rows, expected.rows[10:]
    )


@pytest.mark.parametrize("selection", RANDOM, ids=lambda s: s.order)
@pytest.mark.parametrize("backend", [Dense(), Tiled((5, 7))], ids=str)
def test_draws_are_distinct_negatives(selection: Selection, backend: Backend) -> None:
    comparison = on_sphere(40, 25)
    row_ids, column_ids = comparison.relation.row_ids, comparison.relation.column_ids
    for seed in range(20):
        found = backend.scores(comparison).select(Search(selection, seed=torch.tensor(seed)))
        sides = (found.rows, row_ids, column_ids), (found.columns, column_ids, row_ids)
        for chosen, mine, others in sides:
            for i, picks in enumerate(chosen.tolist()):
                picks = [j for j in picks if j >= 0]
                assert len(set(picks)) == len(picks)
                assert all(mine[i] != others[j] for j in picks)
    few = replace(comparison, relation=Relation(row_ids, torch.where(torch.arange(25) > 1, 9, 8)))
    mask = torch.ones(40, 25, dtype=torch.bool)
    mask[:, :2] = False
    few = few.among(ignore=mask)
    found = backend.scores(few).select(Search(Selection("random", 3), seed=torch.tensor(0))).rows
    assert (found[:, 2] == -1).all()
    assert torch.equal(found[:, :2].sort(1).values, torch.tensor([[0, 1]]).expand(40, 2))


def test_random_draws_are_uniform() -> None:
    """Over anchors under one seed, over seeds for one anchor, and jointly for neighbouring anchors."""
    n, m = 6000, 12
    zeros = torch.zeros(n, 1, dtype=torch.float64)
    comparison = Comparison(zeros, zeros[:m], Dot(), Relation(torch.arange(n) + m, torch.arange(m)))
    picks = (
        Tiled().scores(comparison).select(Search(Selection("random", 2), seed=torch.tensor(7))).rows
    )
    assert (picks >= 0).all()
    for place in (0, 1):
        counts = torch.bincount(picks[:, place], minlength=m).double()
        assert abs(chi_square(counts, torch.full((m,), n / m))) < 4
    joint = torch.bincount(picks[:-1, 0] * m + picks[1:, 0], minlength=m * m).double()
    assert abs(chi_square(joint, torch.full((m * m,), (n - 1) / m**2))) < 4
    one = replace(
        comparison, queries=zeros[:1], relation=Relation(torch.tensor([m]), torch.arange(m))
    )
    searches = [Search(Selection("random", 1), seed=torch.tensor(s)) for s in range(1500)]
    seeds = [Dense().scores(one).select(search).rows.item() for search in searches]
    counts = torch.bincount(torch.tensor(seeds), minlength=m).double()
    assert abs(chi_square(counts, torch.full((m,), 1500 / m))) < 4


@pytest.mark.parametrize("similarity", [Cosine(), Euclidean(), SquaredEuclidean()], ids=name_of)
@pytest.mark.parametrize("backend", [Dense(), Tiled((500, 7))], ids=str)
def test_distance_weighted_draws_follow_the_inverse_density(
    similarity: object, backend: Backend
) -> None:
    """Wu et al., section 4.1: weights 1 / (d^(n-2) (1 - d^2/4)^((n-3)/2)), short distances cut off."""
    n, width, cutoff, farthest = 8000, 4, 0.5, 1.4
    angles = torch.tensor(
        [0.2, 0.45, 0.6, 0.8, 0.95, 1.1, 1.25, 1.4, 1.6, 2.5], dtype=torch.float64
    )
    c = torch.zeros(len(angles), width, dtype=torch.float64)
    c[:, 0], c[:, 1] = angles.cos(), angles.sin()
    q = torch.zeros(n, width, dtype=torch.float64)
    q[:, 0] = 1.0
    relation = Relation(torch.arange(n) + 100, torch.arange(len(c)))
    comparison = Comparison(q, c, similarity, relation)
    selection = Selection("distance_weighted", 1, 0, (float(width), cutoff, farthest))
    picks = (
        backend.scores(comparison)
        .select(Search(selection, seed=torch.tensor(11), columns=False))
        .rows[:, 0]
    )
    d = (c - q[0]).norm(dim=1).clamp(min=cutoff)
    weights = d ** -(width - 2.0) * (1 - d**2 / 4) ** (-(width - 3) / 2)
    near = d < farthest
    assert 5 < near.sum() < len(c)
    counts = torch.bincount(picks, minlength=len(c)).double()
    assert (counts[~near] == 0).all()
    expected = n * weights[near] / weights[near].sum()
    assert abs(chi_square(counts[near], expected)) < 4
    uniform = torch.full_like(expected, n / len(expected))
    assert chi_square(counts[near], uniform) > 20, "the test could not tell it from a uniform draw"
