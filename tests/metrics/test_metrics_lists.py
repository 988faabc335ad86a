"""Lists."""

from __future__ import annotations

import math

import pytest
import torch
from naive_metrics import (
    SIMILARITIES,
    label,
    naive_lists,
    naive_scores,
    sets,
)
from pytorch_metric_learning.utils.accuracy_calculator import AccuracyCalculator
from sklearn.metrics import ndcg_score

from hardneg.metrics import (
    map_at_r,
    ndcg,
    r_precision,
    ranks,
    recall_at_k,
)
from hardneg.similarities import Cosine, Dot, Euclidean, SquaredEuclidean


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("similarity", SIMILARITIES[:6], ids=label)
@pytest.mark.parametrize("same_set", [True, False])
def test_lists_equal_naive_loops(similarity, seed, same_set):
    q, c, q_ids, c_ids = sets(26, 44, 5, seed=seed)
    if seed % 2:  # many ties
        q, c = (x.mul(1.5).round() for x in (q, c))
        if isinstance(similarity, Cosine):
            similarity = Dot()
    if seed > 3:  # long lists, beyond the thresholds compared one by one
        q_ids, c_ids = q_ids % 2, c_ids % 2
    if same_set:
        c, c_ids = q, q_ids
    scores = naive_scores(similarity, q, c)
    if isinstance(similarity, Euclidean) and seed % 2:
        scores = naive_scores(SquaredEuclidean(), q, c)
    gains = (q_ids[:, None] == c_ids[None]).numpy().astype(float)
    expected = naive_lists(scores, gains, same_set)
    given_ids = (q_ids, None if same_set else c_ids)
    options = {"similarity": similarity, "same_set": same_set}
    found = [metric(q, c, *given_ids, **options) for metric in (map_at_r, r_precision, ndcg)]
    assert found == pytest.approx(expected, abs=1e-12)
    cut = naive_lists(scores, gains, same_set, k=7)[2]
    assert ndcg(q, c, *given_ids, k=7, **options) == pytest.approx(cut, abs=1e-12)


@pytest.mark.parametrize("same_set", [True, False])
def test_lists_equal_pytorch_metric_learning(same_set):
    generator = torch.Generator().manual_seed(4)
    x = torch.nn.functional.normalize(torch.randn(120, 16, generator=generator))
    y = torch.nn.functional.normalize(torch.randn(90, 16, generator=generator))
    x_ids, y_ids = torch.arange(120) % 9, torch.arange(90) % 9

    def nearest(query, k, reference, itself):
        distance = torch.cdist(query, reference)
        if itself:
            distance.fill_diagonal_(torch.inf)
        found = distance.topk(k, largest=False)
        return found.values, found.indices

    calculator = AccuracyCalculator(
        include=(
            "precision_at_1",
            "mean_average_precision_at_r",
            "r_precision",
            "mean_reciprocal_rank",
        ),
        k="max_bin_count",
        knn_func=nearest,
        device=torch.device("cpu"),
    )
    reference = () if same_set else (y, y_ids)
    theirs = calculator.get_accuracy(x, x_ids, *reference)
    mine = (x, x, x_ids) if same_set else (x, y, x_ids, y_ids)
    assert map_at_r(*mine, same_set=same_set) == pytest.approx(
        theirs["mean_average_precision_at_r"], abs=1e-6
    )
    assert r_precision(*mine, same_set=same_set) == pytest.approx(theirs["r_precision"], abs=1e-6)
    found = ranks(*mine, same_set=same_set)
    assert recall_at_k(found, 1) == pytest.approx(theirs["precision_at_1"], abs=1e-6)


# once a process, by torch 2.12 and earlier
@pytest.mark.filterwarnings("ignore:Sparse invariant checks are implicitly:UserWarning")
@pytest.mark.parametrize("k", [None, 1, 5, 100])
def test_graded_ndcg_equals_scikit_learn(k):
    q, c, _, _ = sets(20, 35, 8)
    generator = torch.Generator().manual_seed(8)
    grades = torch.randint(0, 4, (20, 35), generator=generator)
    grades[:, 0] = 1
    scores = naive_scores(Cosine(), q, c)
    expected = ndcg_score(grades.numpy(), scores, k=k)
    coo = grades.to_sparse_coo()
    twice = torch.sparse_coo_tensor(
        coo.indices().repeat(1, 2),
        coo.values().double().repeat(2) / 2,
        coo.shape,
        check_invariants=True,
    )
    for relevance in (grades, grades.float(), coo, twice):
        assert ndcg(q, c, relevance=relevance, k=k) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("similarity", ["dot", "squared_euclidean", "order"])
def test_a_broken_score_leaves_the_gains_beside_it_alone(similarity):
    """Queries with fewer gains than the longest are padded; a NaN must not tie with the padding."""
    queries = torch.eye(2, dtype=torch.float64)
    candidates = torch.tensor([[1, 0.1], [torch.nan, 0], [0.2, 1], [0.3, 0.3]]).double()
    gains = torch.tensor([[1, 3, 0, 0], [1, 1, 2, 0]])
    told = {"similarity": similarity}
    alone = [
        ndcg(queries[i : i + 1], candidates, relevance=gains[i : i + 1], **told) for i in (0, 1)
    ]
    assert ndcg(queries, candidates, relevance=gains, **told) == pytest.approx(sum(alone) / 2)


def test_entries_of_0_are_no_gains():
    places = torch.tensor([[0, 0, 1], [0, 1, 2]])
    gains = torch.sparse_coo_tensor(
        places, torch.tensor([2.0, 0, 0]), (3, 3), check_invariants=True
    )
    assert ndcg(torch.eye(3), torch.eye(3), relevance=gains) == 1


@pytest.mark.filterwarnings("ignore:Sparse CSR tensor support:UserWarning")
def test_compressed_rows():
    q, c, _, _ = sets(6, 9, 4)
    grades = torch.eye(6, 9) * 3 + torch.ones(6, 9).tril(-3)
    assert ndcg(q, c, relevance=grades.to_sparse_csr()) == ndcg(q, c, relevance=grades)


@pytest.mark.parametrize("same_set", [True, False])
@pytest.mark.parametrize("seed", range(5))
def test_graded_ties_put_the_least_gain_first(seed, same_set):
    generator = torch.Generator().manual_seed(seed)
    q = torch.randint(-1, 2, (15, 3), generator=generator).float()
    c = q if same_set else torch.randint(-1, 2, (27, 3), generator=generator).float()
    grades = torch.randint(0, 4, (15, len(c)), generator=generator)
    grades = grades * (torch.rand(15, len(c), generator=generator) < 0.4)
    scores = naive_scores(Dot(), q, c)
    found = ndcg(q, c, relevance=grades, k=6, similarity="dot", same_set=same_set)
    expected = naive_lists(scores, grades.numpy(), same_set, k=6)[2]
    assert found == pytest.approx(expected, abs=1e-12)


def test_own_gain_is_no_gain_in_one_set():
    x = torch.tensor([[1.0, 0], [1, 1], [0, 1]])
    grades = torch.diag(torch.tensor([3.0, 3, 3])) + torch.tensor(
        [[0.0, 1, 0], [0, 0, 0], [2, 0, 0]]
    )
    # the second has no other's gain; the first finds its own first, the third its own last
    expected = (1 + 1 / math.log2(3)) / 2
    assert ndcg(x, x, relevance=grades, same_set=True) == pytest.approx(expected)
    with pytest.raises(ValueError, match="no query has"):
        ndcg(x, x, relevance=torch.eye(3), same_set=True)


def test_collapsed_lists_read_the_worst():
    x = torch.ones(12, 7)
    labels = torch.arange(12) % 4
    assert map_at_r(x, x, labels, same_set=True) == 0
    assert r_precision(x, x, labels, same_set=True) == 0
    worst = sum(1 / math.log2(t + 2) for t in (9, 10)) / (1 + 1 / math.log2(3))
    assert ndcg(x, x, labels, same_set=True) == pytest.approx(worst)
