"""Ties and collapse."""

from __future__ import annotations

import pytest
import torch
from naive_metrics import (
    DTYPES,
    SIMILARITIES,
    label,
    naive_ranks,
    naive_scores,
)

from hardneg.metrics import (
    ranks,
    recall_at_k,
    retrieval_metrics,
)
from hardneg.similarities import Cosine, Dot, Euclidean, Order, SquaredEuclidean


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
