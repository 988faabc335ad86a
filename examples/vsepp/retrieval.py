"""Retrieval in both directions: hardneg's metrics, as plain values and in a line of text."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor

from hardneg import Dot, Order
from hardneg.metrics import DirectionMetrics, RetrievalMetrics, ranks, retrieval_metrics
from vsepp.errors import InputError

BLOCK = 2**24
"""Numbers that are compared at once."""
LEVELS = (1, 5, 10)
"""The K of recall at K."""


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


@dataclass(frozen=True)
class QueryBank:
    """Embeddings of training images and captions, which take the advantage of hubs off: candidates that
    are near to every query.

    Source: Bogolin et al., "Cross Modal Retrieval with Querybank Normalisation", CVPR 2022, dynamic
    inverted softmax.
    """

    images: Tensor
    captions: Tensor
    temperature: float

    def retrieve(self, images: Tensor, captions: Tensor, image_of: Tensor) -> RetrievalMetrics:
        """``retrieve`` by inner products, each direction with the bank's queries of its own kind."""
        rows = torch.arange(len(images))
        there = without_hubs(images, captions, self.images, self.temperature)
        back = without_hubs(captions, images, self.captions, self.temperature)
        return RetrievalMetrics(
            DirectionMetrics.of(ranks(*there, rows, image_of, similarity="dot")),
            DirectionMetrics.of(ranks(*back, image_of, rows, similarity="dot")),
        )


def check_bank(temperature: float | None, measure: str) -> None:
    """Refuse a bank's temperature that divides nothing, and a measure that has no inner product."""
    if temperature is not None and not 0 < temperature <= 100:
        raise InputError(
            f"--bank-temperature is {temperature}: expected more than 0 and at most 100"
        )
    if temperature is not None and measure != "cosine":
        raise InputError("--query-bank is for cosine: order scores are no inner products")


def without_hubs(
    queries: Tensor, candidates: Tensor, bank: Tensor, temperature: float
) -> tuple[Tensor, Tensor]:
    """Queries and candidates with one more coordinate, whose inner products are the corrected scores.

    ``s - temperature * logsumexp(bank's scores of the candidate / temperature)`` for queries whose nearest
    candidate is the nearest of some query of the bank, else ``s``. In blocks of bounded memory.
    """
    near_bank = torch.zeros(len(candidates), dtype=torch.bool)
    near_bank[nearest(Dot(), bank, candidates, 1).flatten()] = True
    corrected = near_bank[nearest(Dot(), queries, candidates, 1).flatten()]
    total = torch.full((len(candidates),), -torch.inf)
    for block in bank.split(max(1, BLOCK // len(candidates))):
        total = torch.logaddexp(total, (block @ candidates.T / temperature).logsumexp(0))
    more = corrected[:, None].to(queries), -temperature * total[:, None].to(candidates)
    return torch.cat([queries, more[0]], 1), torch.cat([candidates, more[1]], 1)


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


def caution(images: Mapping[str, int]) -> str:
    """What to say of parts with so few images that a model cannot miss; empty where there is none."""
    sure = {
        name: ", ".join(f"R@{level}" for level in LEVELS if count <= level)
        for name, count in images.items()
    }
    said = [
        f"{name} has {images[name]} {'image' if images[name] == 1 else 'images'} ({levels})"
        for name, levels in sure.items()
        if levels
    ]
    if not said:
        return ""
    return f"caution: t2i R@K is 100 by construction with at most K images: {', '.join(said)}"


def brief(way: DirectionMetrics) -> str:
    """One direction as tables write it."""
    return "/".join(f"{one:.1f}" for one in recalls(way)) + f", median {way.median_rank:g}"


def line(found: RetrievalMetrics) -> str:
    """Both directions in a line."""
    both = f"i2t {brief(found.image_to_text)} | t2i {brief(found.text_to_image)}"
    return f"{both} | rsum {found.rsum:.1f}"
