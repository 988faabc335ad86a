"""What a look finds is what the dense matrix says; planted faults are found, healthy embeddings are not blamed."""

from __future__ import annotations

import math

import pytest
import torch
from noisy_pairs import pairs
from torch import Tensor
from torch.nn.functional import normalize

from hardneg import ContrastiveLoss, InfoNCELoss, MultiSimilarityLoss, SupConLoss, TopK, TripletLoss
from hardneg.diagnostics import Diagnostics, Observation, histogram, hubness, spread


def counted(scores: list[float], edges: Tensor) -> list[int]:
    """One score after the other."""
    found, bounds = [0] * (len(edges) - 1), edges.tolist()
    for score in scores:
        place = next((i for i, low in enumerate(bounds[1:]) if score < low), len(found) - 1)
        found[place] += 1
    return found


def look(loss: torch.nn.Module, *given: Tensor, **options: object) -> Observation:
    seen = Diagnostics(every=1).observe(loss, *given, **options)
    assert seen is not None
    return seen


# Scores


def test_histograms_and_margins_of_pairs_are_those_of_the_matrix() -> None:
    queries, candidates = (x.double() for x in pairs(40, 55))
    ids = torch.arange(55) // 2
    told = {"query_ids": ids[:40], "candidate_ids": ids}
    seen = look(ContrastiveLoss(0.2, TopK(3)), queries, candidates, **told)
    scores = normalize(queries) @ normalize(candidates).T
    others = ids[:40, None] != ids
    of_queries = torch.where(others, scores, -2).topk(3, dim=1).values
    of_candidates = torch.where(others, scores, -2)[:, :40].topk(3, dim=0).values.T
    own, negatives = scores.diagonal(), torch.cat([of_queries, of_candidates])
    edges = seen.positives.edges
    assert edges.tolist() == seen.negatives.edges.tolist()
    assert seen.positives.counts.tolist() == counted([*own.tolist()] * 2, edges)
    assert seen.negatives.counts.tolist() == counted(negatives.flatten().tolist(), edges)
    margins = torch.cat([own, own]) - negatives[:, 0]
    assert seen.margin_mean == pytest.approx(float(margins.mean()), rel=1e-5)
    assert seen.outscored_share == pytest.approx(float((margins <= 0).double().mean()))
    assert seen.negative_mean == pytest.approx(float(negatives.mean()), rel=1e-5)
    active = float(
        (margins.new_tensor(0.2) + negatives - torch.cat([own, own])[:, None] > 0).double().mean()
    )
    assert 0 < seen.active_share < 1
    assert seen.active_share == pytest.approx(active, rel=1e-5)


@pytest.mark.parametrize("loss", [TripletLoss(negatives="hardest"), SupConLoss(0.1)], ids=repr)
def test_histograms_of_labels_are_those_of_the_matrix(loss: torch.nn.Module) -> None:
    x, labels = pairs()[0].double(), torch.arange(60) // 5
    seen = look(loss, x, labels)
    scores = loss.similarity(x, x)
    same = labels[:, None] == labels
    k = 1 if isinstance(loss, TripletLoss) else 8
    negatives = torch.where(same, -torch.inf, scores).topk(k, dim=1).values.flatten()
    positives = scores[same & ~torch.eye(60, dtype=torch.bool)]
    edges = seen.positives.edges
    for found, expected in ((seen.positives, positives), (seen.negatives, negatives)):
        assert found.counts.tolist() == counted(expected.tolist(), edges)


def test_a_histogram_leaves_out_what_is_not_finite() -> None:
    scores = torch.tensor([math.nan, 0.0, 1.0, 0.5, math.inf, -math.inf])
    assert histogram(scores, 4).counts.tolist() == [1, 0, 1, 1]
    assert histogram(scores, 2, (0.4, 0.6)).counts.tolist() == [1, 2]
    assert histogram(torch.full((7,), 3.0), 3).counts.sum() == 7
    assert histogram(torch.empty(0)).counts.sum() == 0


# Hubs


def occurrences(scores: Tensor, k: int) -> Tensor:
    found = torch.zeros(scores.shape[1], dtype=torch.long)
    for row in scores.tolist():
        for place in sorted(range(len(row)), key=lambda j: -row[j])[:k]:
            found[place] += 1
    return found


def test_occurrences_are_counted_as_by_hand() -> None:
    queries, candidates = pairs(50, 30)
    found = hubness(queries, candidates, k=4)
    expected = occurrences(normalize(queries) @ normalize(candidates).T, 4)
    assert found.occurrences.tolist() == expected.tolist()
    away = [x - 50 * 4 / 30 for x in expected.tolist()]
    second, third = (sum(x**p for x in away) / 30 for p in (2, 3))
    assert found.skewness == pytest.approx(third / second**1.5)
    assert found.antihub_share == pytest.approx(expected.tolist().count(0) / 30)


def test_rows_of_one_set_are_no_neighbours_of_themselves() -> None:
    x = pairs(30)[0]
    scores = -torch.cdist(x, x).fill_diagonal_(torch.inf)
    found = hubness(x, k=3, similarity="euclidean")
    assert found.occurrences.tolist() == occurrences(scores, 3).tolist()
    assert hubness(x[:3], k=10).occurrences.tolist() == [2, 2, 2]


def test_a_planted_hub_is_found() -> None:
    queries, candidates = pairs(200, 200, 32, noise=2.0)
    seen = look(ContrastiveLoss(), queries, candidates)
    healthy = Diagnostics(every=1)
    healthy.observe(ContrastiveLoss(), queries, candidates)
    assert healthy.findings == []
    queries = queries + 0.5
    candidates[17] = queries.mean(0)
    planted = Diagnostics(every=1)
    found = planted.observe(ContrastiveLoss(), queries, candidates)
    assert found is not None
    assert int(found.hubs.hubs(1)) == 17
    assert found.hubs.skewness > 3 > seen.hubs.skewness
    assert ["candidate 17" in x for x in planted.findings] == [True]


# Collapse


def test_spread_is_that_of_the_dense_formulas() -> None:
    x = pairs(90)[0].double() + 0.3
    u, found = normalize(x), spread(x, sample=90)
    away = ~torch.eye(90, dtype=torch.bool)
    assert found.mean_cosine == pytest.approx(float((u @ u.T)[away].mean()))
    shares = torch.linalg.svdvals(u) / torch.linalg.svdvals(u).sum()
    assert found.effective_rank == pytest.approx(float((-shares * shares.log()).sum().exp()))
    squared = torch.pdist(u).square()
    assert found.uniformity == pytest.approx(float((-2 * squared).exp().mean().log()))
    assert math.isnan(spread(x[:1]).mean_cosine)


def collapsed_side(kind: str) -> Tensor:
    x = pairs()[0]
    if kind == "one point":
        return torch.ones_like(x)
    if kind == "one way":
        return x[:1] + 0.05 * pairs(60, 60, 24)[1]
    return x[:, :1] * pairs()[1][:1] + 1e-3 * x


@pytest.mark.parametrize("kind", ["one point", "one way", "one line"])
@pytest.mark.parametrize("side", [0, 1], ids=["queries", "candidates"])
def test_a_collapsed_model_is_called_so(kind: str, side: int) -> None:
    given = list(pairs())
    given[side] = collapsed_side(kind)
    diagnostics = Diagnostics(every=1)
    seen = diagnostics.observe(InfoNCELoss(0.1), *given)
    assert seen is not None
    assert seen.collapsed
    assert "collapsed" in diagnostics.findings[0]


NOTHING_COMPARED = {
    "one class": torch.zeros(24, dtype=torch.long),
    "a class of each row": torch.arange(24),
}


@pytest.mark.parametrize("labels", NOTHING_COMPARED.values(), ids=NOTHING_COMPARED)
def test_labels_that_compare_nothing_are_told(labels: Tensor) -> None:
    for loss in (TripletLoss(), SupConLoss()):
        diagnostics = Diagnostics(every=1)
        diagnostics.observe(loss, pairs(24)[0], labels)
        (found,) = diagnostics.findings
        assert "no anchor has both a positive and a negative" in found
        assert "ClassBatches" in found


@pytest.mark.parametrize("number", [math.nan, math.inf])
def test_embeddings_that_are_no_numbers_are_no_collapse(number: float) -> None:
    for loss in (ContrastiveLoss(), InfoNCELoss()):
        queries, candidates = pairs()
        queries[3] = number
        diagnostics = Diagnostics(every=1)
        diagnostics.observe(loss, queries, candidates)
        (found,) = diagnostics.findings
        assert "embeddings are NaN or infinite" in found


def test_no_negative_chosen_is_no_fault_where_all_are_easy() -> None:
    labels = torch.arange(24) // 4
    rows = torch.nn.functional.one_hot(labels, 8) + 1e-3 * pairs(24, 24, 8)[0]
    diagnostics = Diagnostics(every=1)
    diagnostics.observe(MultiSimilarityLoss(epsilon=0.01), rows, labels)
    assert not any("no anchor" in x for x in diagnostics.findings)


def test_one_tensor_on_both_sides_is_observed() -> None:
    queries = pairs()[0]
    seen = look(ContrastiveLoss(), queries, queries)
    assert seen.positive_mean == pytest.approx(1.0)


def test_a_collapse_to_a_point_is_one_for_distances_too() -> None:
    queries, candidates = pairs()
    far = torch.full((24,), 30.0)
    loss = ContrastiveLoss(similarity="euclidean")
    assert not look(loss, far + queries, far + candidates).collapsed
    assert look(loss, far + 1e-3 * queries, far + 1e-3 * candidates).collapsed


@pytest.mark.parametrize("loss", [ContrastiveLoss(0.2), InfoNCELoss(0.05)], ids=repr)
def test_a_plateau_needs_several_looks(loss: torch.nn.Module) -> None:
    flat, healthy = Diagnostics(every=1), Diagnostics(every=1)
    for number in range(3):
        assert not any("stands where" in x for x in flat.findings), number
        flat.observe(loss, *(torch.ones(30, 8) + 1e-4 * x for x in pairs(30, 30, 8)))
        healthy.observe(loss, *pairs(30, 30, 8))
    assert any("stands where" in x for x in flat.findings)
    assert healthy.findings == []
    assert flat.history[-1].loss_at_means == pytest.approx(flat.history[-1].loss, rel=1e-2)
    expected = 0.4 if isinstance(loss, ContrastiveLoss) else math.log(30)
    assert healthy.history[0].loss_at_means == pytest.approx(expected, rel=1e-5)
