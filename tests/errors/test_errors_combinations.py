"""Combinations."""

from __future__ import annotations

import pytest
import torch
from error_calls import IDS, Bilinear, X, Y, raised, says

import hardneg
from hardneg.functional import (
    contrastive_loss,
    margin_loss,
)


def test_distances_that_a_loss_or_a_strategy_needs() -> None:
    for similarity in ("dot", "order"):
        options = {"negatives": "distance_weighted", "similarity": similarity}
        message = raised(ValueError, lambda o=options: contrastive_loss(X, Y, **o))
        says(message, "DistanceWeighted", "similarity", "unit vectors", "cosine")
    message = raised(ValueError, lambda: margin_loss(X, IDS, similarity="cosine"))
    says(message, "MarginLoss", "Cosine()", "needs a distance", "euclidean")
    beta = torch.ones(4)
    message = raised(ValueError, lambda: margin_loss(X, IDS, Y, IDS, beta=beta, directions="both"))
    says(message, "beta", "directions", '"queries"')


@pytest.mark.parametrize("backend", ["auto", "tiled"])
def test_a_trainable_similarity_in_tiles(backend: str) -> None:
    similarity = Bilinear()
    options = {"similarity": similarity, "backend": backend}
    message = raised(ValueError, lambda: contrastive_loss(X, Y, **options))
    says(message, "Bilinear", "trainable parameters", 'backend="dense"')
    message = raised(ValueError, lambda: hardneg.ContrastiveLoss(**options))
    says(message, "Bilinear", "trainable parameters")
    contrastive_loss(X, Y, similarity=similarity, backend="dense").backward()
    assert similarity.weight.grad.abs().sum() > 0
    assert contrastive_loss(X, Y, similarity=similarity.requires_grad_(False)).isfinite()
