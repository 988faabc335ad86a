"""Retrieval metrics of what users pass by mistake, and of data with far-away rows."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from hardneg.metrics import (
    RetrievalAccumulator,
    coco_folds,
    map_at_r,
    ndcg,
    r_precision,
    ranks,
    recall_at_k,
    retrieval_metrics,
)

N, D = 60, 16


def rows(n: int = N, seed: int = 0) -> Tensor:
    return torch.randn(n, D, generator=torch.Generator().manual_seed(seed))


# one tensor on both sides


@pytest.mark.parametrize("metric", [ranks, map_at_r, r_precision, ndcg])
def test_one_tensor_on_both_sides_says_same_set(metric: Any) -> None:
    x, labels = rows(), torch.arange(N) // 4
    for again in (x, x.detach(), x.view(N, D), x[:]):
        with pytest.raises(ValueError, match=r"same tensor.*same_set=True.*clone"):
            metric(x, again, labels, labels)
    with pytest.raises(ValueError, match="same tensor"):
        ndcg(x, x, relevance=torch.ones(N, N))
    if metric is ranks:
        with pytest.raises(ValueError, match="same tensor"):
            ranks(x, x)
    metric(x, x, labels, same_set=True)
    metric(x, x.clone(), labels, labels)
    metric(x[: N // 2], x[N // 2 :], labels[: N // 2], labels[: N // 2])
    metric(x[: N // 2], x, labels[: N // 2], labels)  # a part of the candidates is another set


def test_images_are_no_captions() -> None:
    x = rows()
    with pytest.raises(ValueError, match="images and captions are the same tensor"):
        retrieval_metrics(x, x)
    assert retrieval_metrics(x, x.clone()).rsum == 600


# repeated images


def data_set(k: int = 5) -> tuple[Tensor, Tensor]:
    """Images, and k captions of each near it."""
    images = rows()
    return images, images.repeat_interleave(k, 0) + 0.9 * rows(N * k, 1)


@pytest.mark.parametrize("k", [2, 5])
@pytest.mark.parametrize("noise", [0.0, 2e-7])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.float64])
def test_images_repeated_for_each_caption_raise(k: int, noise: float, dtype: torch.dtype) -> None:
    images, captions = (x.to(dtype) for x in data_set(k))
    repeated = images.repeat_interleave(k, 0)
    repeated = repeated * (1 + noise * torch.randn(N * k, 1)).to(dtype)
    if dtype == torch.float64 and noise:
        pytest.skip("two evaluations in float64 are closer than that")
    with pytest.raises(
        ValueError, match=rf"{N * k} images, but only {N}.*images\[::{k}\].*image_ids"
    ):
        retrieval_metrics(repeated, captions)
    with pytest.raises(ValueError, match="different ones"):
        coco_folds(repeated, captions, folds=5)
    assert retrieval_metrics(repeated[::k], captions).rsum > 0


def test_repeated_images_in_any_order_and_number_raise() -> None:
    images, captions = data_set()
    order = torch.randperm(5 * N, generator=torch.Generator().manual_seed(2))
    with pytest.raises(ValueError, match="different ones"):
        retrieval_metrics(images.repeat_interleave(5, 0)[order], captions[order])
    times = torch.arange(N) % 5 + 1
    uneven = images.repeat_interleave(times, 0)
    with pytest.raises(ValueError, match="the first row of each"):
        retrieval_metrics(uneven, uneven + rows(len(uneven), 3))


def test_copies_under_one_id_count_once() -> None:
    images, captions = data_set()
    ids = torch.arange(N)
    each = ids.repeat_interleave(5)
    expected = retrieval_metrics(images, captions, ids, each)
    order = torch.randperm(5 * N, generator=torch.Generator().manual_seed(2))
    repeated = images.repeat_interleave(5, 0)[order]
    assert retrieval_metrics(repeated, captions, each[order], each) == expected
    views = torch.cat((images, images + 0.5 * rows(N, 4)))
    two = ids.repeat(2)
    kept = ranks(captions, views, each, two)
    found = retrieval_metrics(views, captions, two, each).text_to_image
    assert found.recall_at_1 == 100 * recall_at_k(kept, 1)
    accumulator = RetrievalAccumulator(repeated_images="keep")
    accumulator.update(repeated, captions[order], each[order])
    assert accumulator.compute() == expected


def test_equal_embeddings_of_different_images_are_no_repetition() -> None:
    """A collapsed model, a partly collapsed one and one with few values are measured, not refused."""
    captions = rows(N, 1)
    collapsed = torch.ones(N, D)
    assert retrieval_metrics(collapsed, captions).text_to_image.recall_at_1 == 0
    partly = rows()
    partly[torch.arange(N) % 3 > 0] = 0
    retrieval_metrics(partly, captions)
    few = torch.randint(0, 2, (N, 3), generator=torch.Generator().manual_seed(0)).float()
    retrieval_metrics(few, few.clone())
    twins = rows()
    twins[1], twins[10:12] = twins[0], twins[20:22]
    retrieval_metrics(twins, captions)


# far-away rows


@pytest.mark.parametrize("similarity", ["cosine", "dot", "euclidean", "squared_euclidean", "order"])
@pytest.mark.parametrize("far", [1e6, 1e14, 1e18])
@pytest.mark.parametrize("place", [0, 7, N])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_a_far_candidate_moves_nobody_else(
    similarity: str, far: float, place: int, dtype: torch.dtype
) -> None:
    """It is in front of or behind the others, which stay in their order."""
    images = rows()
    if similarity == "order":
        images = images.abs()
    captions = (images + 0.3 * rows(seed=1)).to(dtype)
    images, ids = images.to(dtype), torch.arange(N)
    before = ranks(images, captions, ids, ids, similarity=similarity)
    outlier = far * rows(1, 3).to(dtype).abs()
    candidates = torch.cat((captions[:place], outlier, captions[place:]))
    numbers = torch.cat((ids[:place], torch.tensor([N]), ids[place:]))
    after = ranks(images, candidates, ids, numbers, similarity=similarity)
    assert ((after - before >= 0) & (after - before <= 1)).all()
    if "euclidean" in similarity:
        assert torch.equal(after, before)
    told = {"similarity": similarity}
    assert map_at_r(images, candidates, ids, numbers, **told) <= map_at_r(
        images, captions, ids, ids, **told
    )


@pytest.mark.parametrize("similarity", ["dot", "euclidean"])
def test_a_far_query_moves_nobody_else(similarity: str) -> None:
    images, captions = rows(), rows() + 0.3 * rows(seed=1)
    before = ranks(images, captions, similarity=similarity)
    images[3] = 1e14
    after = ranks(images, captions, similarity=similarity)
    others = torch.arange(N) != 3
    assert torch.equal(after[others], before[others])


def test_ties_count_against_the_model_beside_a_far_row() -> None:
    x = torch.randint(-3, 4, (N, 4), generator=torch.Generator().manual_seed(0)).float()
    x[1] = x[0]
    far = torch.cat((x, torch.full((1, 4), 1e15)))
    for similarity in ("euclidean", "squared_euclidean"):
        found = ranks(x, far, similarity=similarity)
        assert torch.equal(found, ranks(x, x.clone(), similarity=similarity))
        assert found[0] >= 1
        assert found[1] >= 1


def test_graded_ties_come_least_first_beside_a_far_row() -> None:
    """Tied candidates of gains 1 to 4, and a far one whose own doubt would reach all of them."""
    queries = torch.tensor([[1.0, 0.0]])
    candidates = torch.tensor([[1.0, 2.0], [1.0, -7.0], [1.0, 0.0], [1.0, 5.0], [-1.0, 1e9]])
    gains = torch.tensor([[1.0, 4.0, 3.0, 2.0, 1.0]])
    found = ndcg(queries, candidates, relevance=gains, similarity="dot")
    order = torch.tensor([1.0, 2.0, 3.0, 4.0, 1.0], dtype=torch.float64)
    best = order.sort(descending=True).values
    discount = 1 / torch.log2(torch.arange(2.0, 7.0, dtype=torch.float64))
    assert found == pytest.approx(float((order * discount).sum() / (best * discount).sum()))
