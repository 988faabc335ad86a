"""Both directions."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from naive_metrics import (
    naive_ranks,
    naive_scores,
    sets,
)

from hardneg.metrics import (
    DirectionMetrics,
    RetrievalMetrics,
    coco_folds,
    retrieval_metrics,
)
from hardneg.similarities import Cosine, Order


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
