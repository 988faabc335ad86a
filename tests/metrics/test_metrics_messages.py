"""Messages."""

from __future__ import annotations

import pytest
import torch

from hardneg.metrics import (
    RetrievalAccumulator,
    coco_folds,
    map_at_r,
    mean_rank,
    ndcg,
    ranks,
    recall_at_k,
    retrieval_metrics,
)
from hardneg.metrics.best_rank import best_ranks
from hardneg.metrics.ranking import make_ranking
from hardneg.metrics.relevance import by_gains
from hardneg.similarities import Dot

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
        (lambda: RetrievalAccumulator().update(X, X, IDS), ValueError, "the same tensor"),
        (lambda: RetrievalAccumulator().update(X, X, [0, 1, 2, 3]), TypeError, "image_ids is a"),
    ],
)
def test_messages(call, error, message):
    with pytest.raises(error, match=message):
        call()


def test_widths_must_agree_between_batches():
    accumulator = RetrievalAccumulator()
    accumulator.update(X, X.clone(), IDS)
    accumulator.update(X[:, :2], X[:, :2].clone(), IDS + 4)
    with pytest.raises(ValueError, match=r"widths \[2, 4\]"):
        accumulator.compute()


def test_gains_of_nothing_are_no_stretch():
    relevant = by_gains(X, X.clone(), 0 * X, False)
    assert best_ranks(make_ranking(X, X, Dot()), relevant).tolist() == [-1] * 4


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
