"""Retrieval in both directions: hardneg's metrics, as plain values and in a line of text."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import torch
from torch import Tensor

from hardneg import Dot, Order
from hardneg.metrics import DirectionMetrics, RetrievalMetrics, retrieval_metrics

BLOCK = 2**24
"""Numbers that are compared at once."""


def similarity_of(measure: str) -> Dot | Order:
    """The similarity of a measure; images are its queries. The encoders normalise for cosine."""
    return Order() if measure == "order" else Dot()


def retrieve(images: Tensor, captions: Tensor, image_of: Tensor, measure: str) -> RetrievalMetrics:
    """Rank every caption for every image and the other way round.

    ``images: Float[Tensor, "n d"]``, ``captions: Float[Tensor, "m d"]``, ``image_of: Int[Tensor, "m"]``.
    """
    rows = torch.arange(len(images))
    return retrieval_metrics(images, captions, rows, image_of, similarity=similarity_of(measure))


def nearest(similarity: Dot | Order, queries: Tensor, candidates: Tensor, count: int) -> Tensor:
    """The rows of the best candidates of each query, best first, in blocks of bounded memory.

    ``torch.topk(similarity(queries, candidates), count).indices``; the order score compares
    coordinate by coordinate, so its blocks hold ``rows x m x d`` numbers.
    """
    row = candidates.numel() if isinstance(similarity, Order) else len(candidates)
    blocks = queries.split(max(1, BLOCK // row))
    best = [similarity(block, candidates).topk(count, dim=1).indices for block in blocks]
    return torch.cat(best)


def record(found: RetrievalMetrics) -> dict[str, Any]:
    """As plain values."""
    return {**asdict(found), "rsum": found.rsum}


def from_record(values: dict[str, Any]) -> RetrievalMetrics:
    """Back from plain values."""
    return RetrievalMetrics(
        DirectionMetrics(**values["image_to_text"]), DirectionMetrics(**values["text_to_image"])
    )


def recalls(way: DirectionMetrics) -> tuple[float, float, float]:
    """R@1, R@5 and R@10 in percent."""
    return way.recall_at_1, way.recall_at_5, way.recall_at_10


def brief(way: DirectionMetrics) -> str:
    """One direction as tables write it."""
    return "/".join(f"{one:.1f}" for one in recalls(way)) + f", median {way.median_rank:g}"


def line(found: RetrievalMetrics) -> str:
    """Both directions in a line."""
    both = f"i2t {brief(found.image_to_text)} | t2i {brief(found.text_to_image)}"
    return f"{both} | rsum {found.rsum:.1f}"
