"""Retrieval metrics against loops in float64, the VSE++ authors' ranks and other libraries."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pytorch_metric_learning.utils.accuracy_calculator import AccuracyCalculator
from sklearn.metrics import ndcg_score

from hardneg.metrics import (
    DirectionMetrics,
    RetrievalAccumulator,
    RetrievalMetrics,
    coco_folds,
    map_at_r,
    mean_rank,
    mean_reciprocal_rank,
    median_rank,
    ndcg,
    r_precision,
    ranks,
    recall_at_k,
    retrieval_metrics,
)
from hardneg.metrics import standings as standings_module
from hardneg.metrics.best_rank import best_ranks
from hardneg.metrics.ranking import ranking
from hardneg.metrics.relevance import by_gains, by_ids
from hardneg.metrics.standings import standings
from hardneg.similarities import Cosine, Dot, Euclidean, Order, SquaredEuclidean


def label(value: object) -> str:
    """A test's name that is the same in every process."""
    return getattr(value, "__name__", None) or str(value)


SIMILARITIES = [
    Cosine(),
    Dot(),
    Euclidean(),
    SquaredEuclidean(),
    Order(),
    Order("queries"),
    lambda q, c: q @ c.T - 0.1 * c.sum(1),
]
DTYPES = [torch.float32, torch.float64, torch.float16, torch.bfloat16]
GOLDEN = Path(__file__).parent / "golden" / "vsepp_ranks.npz"


def naive_score(similarity, q, c) -> float:
    """One score in float64, from its definition."""
    if isinstance(similarity, Cosine):
        length = math.sqrt(float(q @ q)) * math.sqrt(float(c @ c))
        return float(q @ c) / length if length else 0.0
    if isinstance(similarity, Dot):
        return float(q @ c)
    if isinstance(similarity, Euclidean | SquaredEuclidean):
        squared = float(((q - c) ** 2).sum())
        return -math.sqrt(squared) if isinstance(similarity, Euclidean) else -squared
    if isinstance(similarity, Order):
        excess = c - q if similarity.general == "candidates" else q - c
        return -math.sqrt(float((np.maximum(excess, 0) ** 2).sum()))
    pair = torch.from_numpy(q)[None], torch.from_numpy(c)[None]
    return float(similarity(*pair))


def naive_scores(similarity, queries, candidates) -> np.ndarray:
    q, c = queries.double().numpy(), candidates.double().numpy()
    return np.array([[naive_score(similarity, a, b) for b in c] for a in q])


def naive_ranks(scores, query_ids, candidate_ids, same_set=False) -> list[int]:
    """Loops over the definition; exact ties count."""
    found = []
    for i, row in enumerate(scores):
        others = [j for j in range(len(row)) if not (same_set and i == j)]
        kin = [j for j in others if candidate_ids[j] == query_ids[i]]
        rivals = [j for j in others if candidate_ids[j] != query_ids[i]]
        if not kin:
            found.append(-1)
            continue
        best = max(row[j] for j in kin)
        found.append(sum(row[j] >= best for j in rivals))
    return found


def naive_order(row, gains, own=None) -> list[int]:
    """Candidates in the order of retrieval: falling score, the least gain first among equals."""
    others = [j for j in range(len(row)) if j != own]
    return sorted(others, key=lambda j: (-row[j], gains[j]))


def naive_lists(scores, gains, same_set=False, k=None) -> tuple[float, float, float]:
    """mAP@R, R-precision and NDCG of an n x m matrix of gains."""
    aps, precisions, ndcgs = [], [], []
    for i, row in enumerate(scores):
        own = i if same_set else None
        order = naive_order(row, gains[i], own)
        hits = [gains[i][j] > 0 for j in order]
        r = sum(hits)
        if r == 0:
            continue
        aps.append(sum(sum(hits[: t + 1]) / (t + 1) for t in range(r) if hits[t]) / r)
        precisions.append(sum(hits[:r]) / r)
        cut = len(order) if k is None else k
        got = sum(gains[i][j] / math.log2(t + 2) for t, j in enumerate(order[:cut]))
        ideal = sorted((gains[i][j] for j in order), reverse=True)[:cut]
        ndcgs.append(got / sum(g / math.log2(t + 2) for t, g in enumerate(ideal)))
    return float(np.mean(aps)), float(np.mean(precisions)), float(np.mean(ndcgs))


def sets(n, m, d, dtype=torch.float32, seed=0):
    generator = torch.Generator().manual_seed(seed)
    q, c = (torch.randn(rows, d, generator=generator).to(dtype) for rows in (n, m))
    ids = [torch.randint(-4, 5, (rows,), generator=generator) * 10**12 for rows in (n, m)]
    return q, c, *ids


# ranks


@pytest.mark.parametrize("similarity", SIMILARITIES, ids=label)
@pytest.mark.parametrize("dtype", DTYPES, ids=label)
def test_ranks_equal_naive_loops(similarity, dtype):
    if not isinstance(similarity, Cosine | Dot | Euclidean | SquaredEuclidean | Order):
        dtype = torch.float64
    for n, m, d in ((23, 41, 7), (41, 23, 16), (1, 5, 3), (9, 1, 3)):
        q, c, q_ids, c_ids = sets(n, m, d, dtype, seed=n)
        c_ids[0] = q_ids[0]
        expected = naive_ranks(naive_scores(similarity, q, c), q_ids, c_ids)
        found = ranks(q, c, q_ids, c_ids, similarity=similarity)
        assert found.dtype == torch.int64
        assert found.tolist() == expected


@pytest.mark.parametrize("similarity", SIMILARITIES[:4], ids=label)
def test_wide_float32_ranks_are_exact(similarity):
    q, c, _, _ = sets(600, 3000, 512, seed=5)
    q_ids, c_ids = torch.arange(600), torch.arange(3000) // 5
    a, b = q.double(), c.double()
    if isinstance(similarity, Cosine):
        a, b = (torch.nn.functional.normalize(x, eps=0) for x in (a, b))
    exact = a @ b.T if isinstance(similarity, Cosine | Dot) else -torch.cdist(a, b)
    kin = q_ids[:, None] == c_ids[None]
    best = exact.masked_fill(~kin, -torch.inf).amax(1, keepdim=True)
    expected = ((exact >= best) & ~kin).sum(1)
    assert torch.equal(ranks(q, c, q_ids, c_ids, similarity=similarity), expected)


@pytest.mark.parametrize("similarity", ["cosine", "order"])
@pytest.mark.parametrize("size", ["40x16", "200x32"])
def test_authors_ranks(similarity, size):
    with np.load(GOLDEN) as held:
        key = f"{similarity}|{size}"
        values = {
            name: torch.from_numpy(held[f"{key}|{name}"])
            for name in ("images", "captions", "i2t", "t2i", "i2t_ranks", "t2i_ranks")
        }
    images, captions = values["images"], values["captions"]
    i_ids, c_ids = torch.arange(len(images)), torch.arange(len(captions)) // 5
    back = Order("queries") if similarity == "order" else similarity
    to_text = ranks(images, captions, i_ids, c_ids, similarity=similarity)
    to_image = ranks(captions, images, c_ids, i_ids, similarity=back)
    assert torch.equal(to_text.double(), values["i2t_ranks"])
    assert torch.equal(to_image.double(), values["t2i_ranks"])
    found = retrieval_metrics(images, captions, similarity=similarity)
    for direction, expected in (
        (found.image_to_text, values["i2t"]),
        (found.text_to_image, values["t2i"]),
    ):
        assert list(vars(direction).values()) == pytest.approx(expected.tolist(), abs=1e-9)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("similarity", SIMILARITIES[:6], ids=label)
def test_one_set_never_retrieves_itself(similarity, seed):
    x, _, labels, _ = sets(37, 1, 6, seed=seed)
    labels[0] = 99
    expected = naive_ranks(naive_scores(similarity, x, x), labels, labels, same_set=True)
    assert expected[0] == -1
    assert ranks(x, x, labels, same_set=True, similarity=similarity).tolist() == expected
    assert ranks(x, x, labels, labels, same_set=True, similarity=similarity).tolist() == expected


def test_default_ids_pair_the_rows():
    q, c, _, _ = sets(6, 9, 4)
    found = ranks(q, c)
    assert found.tolist() == naive_ranks(naive_scores(Cosine(), q, c), range(6), range(9))
    assert ranks(q[:1], c[:1]).tolist() == [0]


def test_several_images_of_one_caption_and_queries_without_any():
    q, c, _, _ = sets(8, 12, 5)
    q_ids = torch.tensor([1, 1, 1, 2, 2, 7, 8, 3])
    c_ids = torch.tensor([3, 3, 1, 2, 9, 9, 1, 1, 2, 3, 3, 3])
    found = ranks(q, c, q_ids, c_ids, similarity="dot")
    assert found.tolist() == naive_ranks(naive_scores(Dot(), q, c), q_ids, c_ids)
    assert found[5:7].tolist() == [-1, -1]


# ties and collapse


def collapsed(kind, n, d, dtype, generator):
    """Embeddings that carry no information."""
    direction = torch.randn(d, generator=generator, dtype=torch.float64)
    noise = torch.randn(n, d, generator=generator, dtype=torch.float64) * torch.finfo(dtype).eps
    if kind == "equal":
        return direction.expand(n, d).to(dtype)
    if kind == "rank one":
        length = torch.rand(n, 1, generator=generator, dtype=torch.float64) + 0.5
        return (length * direction).to(dtype)
    if kind == "absolute noise":
        return (direction + noise * direction.norm() / d**0.5).to(dtype)
    assert kind == "relative noise"
    return (direction * (1 + noise)).to(dtype)


COLLAPSES = ["equal", "rank one", "absolute noise", "relative noise"]


@pytest.mark.parametrize("dtype", DTYPES, ids=label)
@pytest.mark.parametrize("seed", range(25))
def test_a_hundred_collapsed_models_read_zero(dtype, seed):
    generator = torch.Generator().manual_seed(seed)
    n, d = 2 + seed * 5, [2, 3, 16, 33, 100, 257, 1024][seed % 7]
    kind = COLLAPSES[seed % 4]
    images = collapsed(kind, n, d, dtype, generator)
    own_direction = seed % 3 == 0
    generator = generator if own_direction else torch.Generator().manual_seed(seed)
    captions = collapsed(kind, 5 * n, d, dtype, generator)
    similarity = (
        "cosine" if kind == "rank one" else ["cosine", "dot", "euclidean", "order"][seed % 4]
    )
    if kind == "rank one" or similarity != "cosine":
        found = retrieval_metrics(images, captions, similarity="cosine")
        assert found.rsum <= 600 * 9 / n
        assert (found.image_to_text.recall_at_1, found.text_to_image.recall_at_1) == (0, 0)
    found = retrieval_metrics(images, captions, similarity=similarity)
    assert found.image_to_text.recall_at_1 == 0
    assert found.text_to_image.recall_at_1 == 0
    labels = torch.arange(n) // 2
    if n > 3:
        assert recall_at_k(ranks(images, images, labels, same_set=True), 1) == 0


@pytest.mark.parametrize("similarity", SIMILARITIES, ids=label)
@pytest.mark.parametrize("dtype", DTYPES, ids=label)
def test_collapsed_under_every_similarity(similarity, dtype):
    for kind in COLLAPSES:
        if kind == "rank one" and not isinstance(similarity, Cosine):
            continue
        generator = torch.Generator().manual_seed(3)
        images = collapsed(kind, 33, 40, dtype, generator)
        captions = collapsed(kind, 70, 40, dtype, generator)
        found = ranks(images, captions, similarity=similarity)
        assert found.tolist() == [69] * 33
        labels = torch.arange(70) % 3
        kin = torch.bincount(labels)[labels]
        one_set = ranks(captions, captions, labels, same_set=True, similarity=similarity)
        assert torch.equal(one_set, 70 - kin)


@pytest.mark.parametrize("seed", range(20))
def test_rank_one_of_both_signs(seed):
    generator = torch.Generator().manual_seed(seed)
    direction = torch.randn(64, generator=generator)
    signs = torch.tensor([1.0, -1.0, -1.0, 1.0, 1.0, -1.0])[:, None]
    x, y = (signs * direction * (1 + 5e-7 * torch.randn(6, 64, generator=generator)) for _ in "xy")
    assert ranks(x, y).tolist() == [2] * 6


def test_a_tight_cluster_is_no_collapse():
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(32, generator=generator) + 1e-3 * torch.randn(40, 32, generator=generator)
    assert ranks(x, x.clone()).tolist() == [0] * 40
    assert recall_at_k(ranks(x, x.clone(), similarity="euclidean"), 1) == 1


@pytest.mark.parametrize("similarity", ["dot", "euclidean", "squared_euclidean", "order"])
@pytest.mark.parametrize("dtype", DTYPES, ids=label)
def test_integers_tie_only_where_they_are_equal(similarity, dtype):
    generator = torch.Generator().manual_seed(1)
    q, c = (torch.randint(-2, 3, (rows, 5), generator=generator).to(dtype) for rows in (30, 90))
    q_ids, c_ids = torch.arange(30), torch.arange(90) // 3
    kind = {"dot": Dot(), "order": Order()}.get(similarity, SquaredEuclidean())
    scores = naive_scores(kind, q, c)
    expected = naive_ranks(scores, q_ids, c_ids)
    assert ranks(q, c, q_ids, c_ids, similarity=similarity).tolist() == expected
    strict = [
        int(sum(scores[i][j] > max(scores[i][3 * i : 3 * i + 3]) for j in range(90)))
        for i in range(30)
    ]
    assert expected != strict


def test_large_integers_are_told_apart():
    q = torch.tensor([[4096.0, 1.0]])
    c = torch.tensor([[4096.0, 1.0], [4096.0, 2.0], [4096.0, 0.0]])
    assert ranks(q, c, similarity="dot").tolist() == [1]


@pytest.mark.parametrize("similarity", [*SIMILARITIES[:5], lambda q, c: q @ c.T], ids=label)
@pytest.mark.parametrize("dtype", DTYPES[:2], ids=label)
def test_scores_that_differ_by_rounding_tie(similarity, dtype):
    """Reordered coordinates score alike but for the order of summation."""
    generator = torch.Generator().manual_seed(0)
    x = torch.rand(64, generator=generator, dtype=dtype) * 2.0 ** -torch.arange(64).div(3)
    moved = torch.stack([x[torch.randperm(64, generator=generator)] for _ in range(40)])
    distance = isinstance(similarity, Euclidean | SquaredEuclidean | Order)
    query = torch.zeros(1, 64, dtype=dtype) if distance else torch.ones(1, 64, dtype=dtype)
    for own in (0, 17):
        ids = torch.arange(40) == own
        found = ranks(query, moved, torch.ones(1).long(), ids.long(), similarity=similarity)
        assert found.item() == 39
    nearer = moved[:2].clone()
    nearer[0] += -1e-3 * nearer[0] if distance else 1e-3
    assert ranks(query, nearer, similarity=similarity).item() == 0


def test_distances_are_told_apart_far_from_the_origin():
    generator = torch.Generator().manual_seed(0)
    x, y = (torch.randint(-12, 13, (200, 64), generator=generator) / 4 for _ in "xy")
    expected = ranks(x, y, similarity="euclidean")
    assert torch.equal(ranks(x + 2**18, y + 2**18, similarity="euclidean"), expected)


def test_a_broken_first_row_does_not_hide_a_collapse():
    generator = torch.Generator().manual_seed(0)
    x, y = (collapsed("absolute noise", 20, 16, torch.float32, generator) for _ in "xy")
    x[0], y[0] = torch.nan, torch.nan
    assert ranks(x, y).tolist() == [19] * 20


def test_zero_vectors_tie():
    zero = torch.zeros(4, 3)
    for similarity in ("cosine", "dot", "euclidean", "order"):
        assert ranks(zero, zero.clone(), similarity=similarity).tolist() == [3] * 4


# NaN and infinity


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

    order, relevant = ranking(x, y, broken), by_ids(x, y, ids[:10], ids, False)
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


# properties


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
    order, relevant = ranking(x, x, similarity), by_ids(x, x, labels, None, True)
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
    order, relevant = ranking(q, c, Dot()), by_ids(q, c, q_ids, c_ids, False)
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


# averages


def test_averages_by_hand():
    found = torch.tensor([0, 4, -1, 2, 9, 0, -1])
    assert [recall_at_k(found, k) for k in (1, 3, 5, 10)] == [0.4, 0.6, 0.8, 1.0]
    assert median_rank(found) == 3
    assert median_rank(torch.tensor([1, 4])) == 3
    assert median_rank(torch.tensor([1, 1, 2, 6])) == 2
    assert mean_rank(found) == 4.0
    expected = (1 + 1 / 5 + 1 / 3 + 1 / 10 + 1) / 5
    assert mean_reciprocal_rank(found) == pytest.approx(expected, abs=1e-15)


@settings(deadline=None, derandomize=True)
@given(st.lists(st.integers(0, 1000), min_size=1, max_size=40))
def test_median_and_mean_as_the_authors_compute_them(values):
    found = torch.tensor(values)
    assert median_rank(found) == np.floor(np.median(values)) + 1
    assert mean_rank(found) == pytest.approx(np.mean(values) + 1)


# lists


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


# both directions


def test_retrieval_metrics_by_hand():
    images = torch.eye(3)
    captions = torch.tensor([[1.0, 0, 0], [0, 1, 0], [0, 1, 0], [0, 1, 0.5], [0, 0, 1], [1, 0, 0]])
    found = retrieval_metrics(images, captions, similarity="dot")
    # image 0: caption 0 ties with caption 5; image 1: caption 2 ties with caption 1; image 2: best
    expected = [100 / 3, 100.0, 100.0, 2.0, 5 / 3]
    assert list(vars(found.image_to_text).values()) == pytest.approx(expected)
    # captions 1 and 5 show another image's direction and tie with the third image at 0
    expected = [400 / 6, 100.0, 100.0, 1.0, 10 / 6]
    assert list(vars(found.text_to_image).values()) == pytest.approx(expected)
    assert found.rsum == pytest.approx(500)
    values = found.as_dict()
    assert values["rsum"] == found.rsum
    assert values["text_to_image_median_rank"] == 1.0
    assert len(values) == 11
    assert "R@1  33.3" in str(found)
    assert "rsum: 500.0" in str(found)
    assert found == retrieval_metrics(
        images, captions, torch.arange(3), torch.arange(6) // 2, similarity="dot"
    )


def test_any_number_of_captions_an_image():
    images, captions, _, _ = sets(12, 40, 6)
    generator = torch.Generator().manual_seed(1)
    c_ids = torch.cat([torch.arange(12), torch.randint(0, 12, (28,), generator=generator)])
    for similarity in ("cosine", "order", lambda q, c: q @ c.T.square()):
        kind = {"cosine": Cosine(), "order": Order()}.get(similarity, similarity)
        scores = naive_scores(kind, images, captions)
        found = retrieval_metrics(images, captions, torch.arange(12), c_ids, similarity=similarity)
        there = torch.tensor(naive_ranks(scores, range(12), c_ids))
        back = torch.tensor(naive_ranks(scores.T, c_ids, range(12)))
        assert found == RetrievalMetrics(DirectionMetrics.of(there), DirectionMetrics.of(back))


def test_folds_are_the_mean_of_their_parts():
    generator = torch.Generator().manual_seed(1)
    images = torch.randn(50, 12, generator=generator)
    captions = images.repeat_interleave(5, 0) + 2 * torch.randn(250, 12, generator=generator)
    parts = [
        retrieval_metrics(images[10 * i : 10 * i + 10], captions[50 * i : 50 * i + 50])
        for i in range(5)
    ]
    found = coco_folds(images, captions).as_dict()
    for name, value in found.items():
        assert value == pytest.approx(np.mean([part.as_dict()[name] for part in parts]))
    assert coco_folds(images, captions, folds=1) == retrieval_metrics(images, captions)


# accumulator


@pytest.mark.parametrize("device", ["cpu", None])
def test_accumulator_equals_everything_at_once(device):
    generator = torch.Generator().manual_seed(1)
    images = torch.randn(30, 8, generator=generator)
    captions = images.repeat_interleave(5, 0) + torch.randn(150, 8, generator=generator)
    accumulator = RetrievalAccumulator("cosine", device=device)
    order = torch.randperm(150, generator=generator)
    for batch in order.split(37):  # as a caption data set yields them: images again and again
        numbers = batch // 5
        held, texts = images[numbers].requires_grad_(), captions[batch].requires_grad_()
        accumulator.update(held, texts, numbers)
        with torch.no_grad():  # the caller may use its buffers again
            held.zero_()
            texts.zero_()
            numbers.zero_()
    assert accumulator.compute() == retrieval_metrics(images, captions)
    accumulator.reset()
    with pytest.raises(ValueError, match="no images were collected"):
        accumulator.compute()
    accumulator.update(images, captions, torch.arange(30), torch.arange(150) // 5)
    assert accumulator.compute() == retrieval_metrics(images, captions)


def test_accumulator_takes_each_side_alone():
    images, captions = torch.eye(6), torch.eye(6).repeat_interleave(3, 0)
    accumulator = RetrievalAccumulator()
    accumulator.add_images(images, torch.arange(6))
    with pytest.raises(ValueError, match="no captions were collected"):
        accumulator.compute()
    accumulator.add_captions(captions[:5], torch.arange(5) // 3)
    accumulator.add_captions(captions[5:], torch.arange(5, 18) // 3)
    assert accumulator.compute() == retrieval_metrics(images, captions)
    views = RetrievalAccumulator(repeated_images="keep")
    views.update(images.repeat(2, 1), captions, torch.arange(6).repeat(2), torch.arange(18) // 3)
    assert len(views.images[0][0]) == 12
    assert views.compute().rsum == 600


# messages


X, IDS = torch.eye(4), torch.arange(4)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: ranks(X, X[:, :3]), ValueError, "project both to one width"),
        (lambda: ranks(X, X.double()), TypeError, "convert one of them"),
        (lambda: ranks(X, X[:3]), ValueError, "pass query_ids and candidate_ids"),
        (lambda: ranks([1.0], X), TypeError, "queries is a list"),
        (lambda: ranks(X, X.long()), TypeError, r"call \.float\(\)"),
        (lambda: ranks(X[:0], X), ValueError, "queries is empty"),
        (lambda: ranks(X, X, IDS), ValueError, "candidate_ids is missing"),
        (lambda: ranks(X, X, None, IDS), ValueError, "query_ids is missing"),
        (lambda: ranks(X, X, IDS[:3], IDS), ValueError, "query_ids has shape"),
        (lambda: ranks(X, X, IDS, IDS.float()), TypeError, r"call \.long\(\)"),
        (lambda: ranks(X, X, same_set=True), ValueError, "one set needs query_ids"),
        (lambda: ranks(X, X[:3], IDS, same_set=True), ValueError, "4 queries and 3 candidates"),
        (lambda: ranks(X, X, IDS, IDS + 1, same_set=True), ValueError, "an item has one id"),
        (lambda: ranks(X, X, similarity="cosin"), ValueError, "unknown similarity 'cosin'"),
        (lambda: ranks(X, X, similarity=3), TypeError, "similarity is 3"),
        (lambda: recall_at_k(IDS, 0), ValueError, "k is 0"),
        (lambda: recall_at_k(X, 1), TypeError, "expected integers"),
        (lambda: recall_at_k([0], 1), TypeError, "ranks is a list"),
        (lambda: mean_rank(-torch.ones(3, dtype=torch.long)), ValueError, "no query has"),
        (lambda: map_at_r(X, X, IDS, same_set=True), ValueError, "no query has"),
        (lambda: ndcg(X, X, IDS, IDS, relevance=X), ValueError, "both given"),
        (lambda: ndcg(X, X, relevance=X[:3]), ValueError, "relevance has shape"),
        (lambda: ndcg(X, X, relevance=-X), ValueError, "negative or non-finite"),
        (lambda: ndcg(X, X, relevance=X / 0), ValueError, "negative or non-finite"),
        (lambda: ndcg(X, X, relevance=[[1]]), TypeError, "relevance is list"),
        (lambda: ndcg(X, X.clone(), relevance=0 * X), ValueError, "no gain is above 0"),
        (lambda: ndcg(X, X, k=0), ValueError, "k is 0"),
        (lambda: retrieval_metrics(X, X[:3]), ValueError, "3 captions for 4 images"),
        (lambda: retrieval_metrics(X, X, IDS), ValueError, "caption_ids is missing"),
        (lambda: retrieval_metrics(X, X, IDS, IDS[:1]), ValueError, "caption_ids has shape"),
        (lambda: coco_folds(X, X), ValueError, "4 images in 5 folds"),
        (lambda: coco_folds(X, X, folds=0), ValueError, "folds is 0"),
        (lambda: RetrievalAccumulator("cosin"), ValueError, "unknown similarity"),
        (lambda: RetrievalAccumulator(repeated_images="no"), ValueError, "repeated_images"),
        (lambda: RetrievalAccumulator().update(X, X[:2], IDS), ValueError, "caption_ids has"),
        (lambda: RetrievalAccumulator().update(X, X, [0, 1, 2, 3]), TypeError, "image_ids is a"),
    ],
)
def test_messages(call, error, message):
    with pytest.raises(error, match=message):
        call()


def test_widths_must_agree_between_batches():
    accumulator = RetrievalAccumulator()
    accumulator.update(X, X, IDS)
    accumulator.update(X[:, :2], X[:, :2], IDS + 4)
    with pytest.raises(ValueError, match=r"widths \[2, 4\]"):
        accumulator.compute()


def test_gains_of_nothing_are_no_stretch():
    relevant = by_gains(X, X.clone(), 0 * X, False)
    assert best_ranks(ranking(X, X, Dot()), relevant).tolist() == [-1] * 4


def test_relevant_scores_are_read_from_the_product(monkeypatch):
    """A product that rounds by position still ties: scores come from one tile."""
    from hardneg.ops.tiled import scores as tiled

    original = tiled.ProductTiles.scores

    def jittered(self, tile):
        out = original(self, tile)
        noise = torch.linspace(-1, 1, out.numel(), dtype=out.dtype).view_as(out)
        return out.add_(noise * out.shape[1] * 1e-16)

    monkeypatch.setattr(tiled.ProductTiles, "scores", jittered)
    x = torch.ones(20, 64)
    assert ranks(x, x.clone()).tolist() == [19] * 20
