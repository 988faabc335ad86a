"""What mining finds at a validation, among a fixed batch of dev pairs: statistics of the hardest
negatives, and three of them for six anchors. The dev split is embedded anyway, so this costs a loss
of one batch.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from hardneg import ContrastiveLoss
from vsepp.evaluate import Embedded
from vsepp.retrieval import nearest, similarity_of
from vsepp.settings import Loss

PAIRS, ANCHORS, SHOWN = 128, 6, 3


def evenly(count: int, most: int) -> list[int]:
    """Up to ``most`` of so many rows, evenly spread."""
    return [count * (2 * number + 1) // (2 * most) for number in range(most)]


def mining_row(embedded: Embedded, settings: Loss, keep: bool) -> dict[str, Any]:
    """For a row of the history: ``mining``, and ``mined`` where negatives are kept to look at.
    Nothing where fewer than two pairs are there.
    """
    images, captions = fixed_pairs(embedded)
    if len(images) < 2:
        return {}
    given = (embedded.images[images], embedded.captions[captions])
    row: dict[str, Any] = {"mining": statistics(*given, settings)}
    if keep:
        found = mined(*given, settings.measure)
        rows = embedded.captions_kept[captions].tolist()
        row["mined"] = [[*((rows[pair], score) for pair, score in one)] for one in found]
    return row


def fixed_pairs(embedded: Embedded) -> tuple[Tensor, Tensor]:
    """Rows of images, evenly spread, and of the first caption of each."""
    first = torch.full((len(embedded.images),), len(embedded.captions))
    first.scatter_reduce_(0, embedded.image_of, torch.arange(len(embedded.captions)), reduce="amin")
    told = torch.nonzero(first < len(embedded.captions)).flatten()
    images = told[evenly(len(told), min(PAIRS, len(told)))]
    return images, first[images]


def statistics(images: Tensor, captions: Tensor, settings: Loss) -> dict[str, float]:
    """Of anchors in both directions: the share whose hardest negative comes within the margin, the
    mean score of their positives and of those negatives. The same measure for every loss.
    """
    similarity = similarity_of(settings.measure)
    loss = ContrastiveLoss(settings.margin, similarity=similarity, negatives="hardest")
    with torch.inference_mode():
        _, found = loss(images, captions, return_stats=True)
    return {
        "active_anchors": float(found.active_fraction),
        "positive": float(found.positive_mean),
        "negative": float(found.hardest_negative_mean),
    }


def mined(images: Tensor, captions: Tensor, measure: str) -> list[list[tuple[int, float]]]:
    """Pairs and scores for each anchor: its own pair, and those of the hardest captions."""
    similarity, found = similarity_of(measure), []
    for anchor in evenly(len(images), min(ANCHORS, len(images))):
        image = images[anchor : anchor + 1]
        count = min(SHOWN + 1, len(captions))
        best = nearest(similarity, image, captions, count)[0].tolist()
        pairs = [anchor, *[pair for pair in best if pair != anchor][:SHOWN]]
        scores: Sequence[float] = similarity(image, captions[pairs])[0].tolist()
        found.append([*zip(pairs, scores, strict=True)])
    return found
