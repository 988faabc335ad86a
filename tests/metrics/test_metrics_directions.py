"""Both directions of any metric by the losses' names, and reports of given scores."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest
import torch
from naive_metrics import naive_lists, naive_ranks, naive_scores
from torch import Tensor

from hardneg import ContrastiveLoss
from hardneg.metrics import (
    both_directions,
    coco_folds,
    from_scores,
    map_at_k,
    ndcg,
    precision_at_k,
    ranks,
    recall_at_k,
    retrieval_metrics,
)
from hardneg.similarities import Dot, Order


def two_sets(n: int = 12, m: int = 20) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Whole numbers, so that many tie; gains from many to many."""
    g = torch.Generator().manual_seed(0)
    q, c = (torch.randint(-2, 3, (rows, 5), generator=g).float() for rows in (n, m))
    q_ids, c_ids = (torch.randint(0, 8, (rows,), generator=g) for rows in (n, m))
    return q, c, q_ids, c_ids, torch.randint(-3, 3, (n, m), generator=g).clamp(min=0).float()


@pytest.mark.filterwarnings("ignore:Sparse CSR")
@pytest.mark.parametrize("kind", ["dense", "bool", "coo", "csr"])
@pytest.mark.parametrize("k", [None, 3, 100])
def test_relevance_in_both_directions(kind: str, k: int | None) -> None:
    q, c, _, _, gains = two_sets()
    gains = (gains > 0).float() if kind == "bool" else gains
    given = {"coo": gains.to_sparse_coo, "csr": gains.to_sparse_csr, "bool": gains.bool}.get(
        kind, lambda: gains
    )()
    scores = naive_scores(Dot(), q, c)
    found = both_directions(ndcg, q, c, relevance=given, similarity="dot", k=k)
    expected = naive_lists(scores, gains.double().numpy(), k=k)[2]
    back = naive_lists(scores.T, gains.T.double().numpy(), k=k)[2]
    assert found == pytest.approx({"queries": expected, "candidates": back}, abs=1e-12)
    values = both_directions(map_at_k, q, c, relevance=given, per_query=True, k=k or 5)
    assert [len(x) for x in values.values()] == [12, 20]
    of_scores = partial(both_directions, ndcg, k=k)
    assert from_scores(of_scores, q @ c.T, relevance=given) == pytest.approx(found)


@pytest.mark.parametrize(
    "similarity", [Order(), Order("queries"), lambda q, c: q @ c.T - q.sum(1)[:, None]]
)
def test_similarities_that_are_not_symmetric(similarity: Any) -> None:
    q, c, q_ids, c_ids, _ = two_sets()
    scores = naive_scores(similarity, q, c)
    found = both_directions(ranks, q, c, q_ids, c_ids, similarity=similarity)
    assert found["queries"].tolist() == naive_ranks(scores, q_ids, c_ids)
    assert found["candidates"].tolist() == naive_ranks(scores.T, c_ids, q_ids)


def test_names_are_those_of_the_losses_and_of_the_report() -> None:
    q, c, q_ids, c_ids, _ = two_sets()
    for direction in ("queries", "candidates"):
        ContrastiveLoss(directions=direction)
        found = both_directions(ranks, q, c, q_ids, c_ids, directions=direction)
        assert [*found] == [direction]
        assert found[direction].equal(both_directions(ranks, q, c, q_ids, c_ids)[direction])
    images, captions = torch.randn(6, 4), torch.randn(18, 4)
    report = retrieval_metrics(images, captions)
    each = both_directions(ranks, images, captions, torch.arange(6), torch.arange(18) // 3)
    assert report.image_to_text.recall_at_5 == 100 * recall_at_k(each["queries"], 5)
    assert report.text_to_image.recall_at_5 == 100 * recall_at_k(each["candidates"], 5)


def test_without_ids_further_rows_have_no_partner() -> None:
    q, c, *_ = two_sets()
    found = both_directions(ranks, q, c, similarity="dot")
    assert found["queries"].equal(ranks(q, c, similarity="dot"))
    assert found["candidates"][12:].tolist() == [-1] * 8
    scores = naive_scores(Dot(), q, c)
    assert found["candidates"].tolist() == naive_ranks(scores.T, range(20), range(12))
    back = both_directions(ranks, c, q, similarity="dot")
    assert back["queries"].equal(found["candidates"])
    assert both_directions(precision_at_k, q, c, k=50)["queries"] == pytest.approx(1 / 50)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"directions": "both ways"}, "unknown directions 'both ways'"),
        ({"same_set": True}, "one direction"),
        ({"relevance": torch.eye(3)}, "relevance has shape"),
        ({"relevance": torch.ones(3)}, "relevance has shape"),
    ],
)
def test_mistakes_in_directions(options: dict[str, Any], message: str) -> None:
    q, c, *_ = two_sets()
    with pytest.raises(ValueError, match=message):
        both_directions(ranks, q, c, **options)


# reports of given scores


def pictures() -> tuple[Tensor, Tensor]:
    g = torch.Generator().manual_seed(1)
    images = torch.randn(15, 6, generator=g, dtype=torch.float64)
    noise = torch.randn(45, 6, generator=g, dtype=torch.float64)
    return images, images.repeat_interleave(3, 0) + noise


def test_reports_of_given_scores() -> None:
    images, captions = pictures()
    expected = retrieval_metrics(images, captions, similarity="dot")
    scores = images @ captions.T
    assert from_scores(retrieval_metrics, scores) == expected
    folds = coco_folds(images, captions, similarity="dot")
    assert from_scores(coco_folds, scores) == folds
    assert from_scores(partial(coco_folds, folds=3), scores.T.contiguous().T) == coco_folds(
        images, captions, folds=3, similarity="dot"
    )
    ids = torch.arange(15)
    order = torch.randperm(45)
    repeated = scores.repeat_interleave(3, 0)[order]
    shuffled = from_scores(retrieval_metrics, repeated[:, order], ids[order // 3], ids[order // 3])
    assert shuffled.rsum == pytest.approx(expected.rsum)
    with pytest.raises(ValueError, match="45 images, but only 15 different"):
        from_scores(retrieval_metrics, scores.repeat_interleave(3, 0))
    square = from_scores(retrieval_metrics, scores[:, ::3])
    assert square == retrieval_metrics(images, captions[::3], similarity="dot")


def test_one_score_is_no_repeated_tensor() -> None:
    assert from_scores(ranks, torch.tensor([[0.5]])).tolist() == [0]
    assert from_scores(retrieval_metrics, torch.tensor([[0.5]])).rsum == 600


def test_a_square_tensor_on_both_sides_is_no_matrix_of_scores() -> None:
    x = torch.randn(7, 7)
    with pytest.raises(ValueError, match="same tensor"):
        ranks(x, x)
    with pytest.raises(ValueError, match="same tensor"):
        retrieval_metrics(x, x)


# repeated rows


def test_images_repeated_under_different_ids_raise() -> None:
    images, captions = pictures()
    repeated, each = images.repeat_interleave(3, 0), torch.arange(45)
    with pytest.raises(ValueError, match="45 images under different ids, but only 15 different"):
        retrieval_metrics(repeated, captions, each, each)
    order = torch.randperm(45)
    with pytest.raises(ValueError, match="give copies of an image one id"):
        retrieval_metrics(repeated[order], captions[order], each, each)
    found = retrieval_metrics(repeated, captions, each // 3, each // 3)
    assert found == retrieval_metrics(images, captions)
    collapsed = retrieval_metrics(torch.ones(45, 6), captions.float(), each, each)
    assert collapsed.text_to_image.recall_at_1 == 0
