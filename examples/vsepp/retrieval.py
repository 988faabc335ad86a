"""Recall at k in both directions, from two sets of embeddings."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from hardneg import Dot, Order
from hardneg.metrics import ranks

LEVELS = (1, 5, 10)


@dataclass(frozen=True)
class Direction:
    """Recalls in percent, and median and mean rank counted from 1."""

    r1: float
    r5: float
    r10: float
    median: float
    mean: float

    @property
    def recalls(self) -> tuple[float, float, float]:
        """The three recalls."""
        return self.r1, self.r5, self.r10

    def __str__(self) -> str:
        return "/".join(f"{recall:.1f}" for recall in self.recalls) + f", median {self.median:g}"


@dataclass(frozen=True)
class Retrieval:
    """Image to text and text to image; ``rsum`` adds the six recalls."""

    i2t: Direction
    t2i: Direction

    @property
    def rsum(self) -> float:
        """The sum of the six recalls, by which the paper selects its model."""
        return sum(self.i2t.recalls) + sum(self.t2i.recalls)

    def record(self) -> dict[str, Any]:
        """As plain values."""
        return {**asdict(self), "rsum": self.rsum}

    @classmethod
    def from_record(cls, record: dict[str, Any]) -> Retrieval:
        """Back from plain values."""
        return cls(Direction(**record["i2t"]), Direction(**record["t2i"]))

    def __str__(self) -> str:
        return f"i2t {self.i2t} | t2i {self.t2i} | rsum {self.rsum:.1f}"


def direction(ranked: Tensor) -> Direction:
    """Summarise ranks counted from 0, with the released conventions for median and mean."""
    found = ranked.numpy()
    r1, r5, r10 = (100.0 * float((found < level).mean()) for level in LEVELS)
    return Direction(r1, r5, r10, float(np.floor(np.median(found)) + 1), float(found.mean() + 1))


def mean_of(parts: Sequence[Direction]) -> Direction:
    """The mean of each number over folds."""
    return Direction(
        **{
            name: float(np.mean([getattr(part, name) for part in parts]))
            for name in asdict(parts[0])
        }
    )


def retrieve(images: Tensor, captions: Tensor, image_of: Tensor, measure: str) -> Retrieval:
    """Rank every caption for every image and the other way round; ties count against the model.

    ``images: Float[Tensor, "n d"]``, ``captions: Float[Tensor, "m d"]``, ``image_of: Int[Tensor,
    "m"]``.
    """
    rows = torch.arange(len(images))
    similarity = Order() if measure == "order" else Dot()
    i2t = ranks(images, captions, rows, image_of, similarity=similarity)
    t2i = ranks(captions, images, image_of, rows, similarity=similarity.swapped())
    return Retrieval(direction(i2t), direction(t2i))


def retrieve_folds(
    images: Tensor, captions: Tensor, image_of: Tensor, measure: str, fold: int = 1_000
) -> Retrieval:
    """COCO's 1K protocol: the mean over consecutive folds of ``fold`` images, each with its
    captions.
    """
    parts = []
    for start in range(0, len(images), fold):
        inside = (image_of >= start) & (image_of < start + fold)
        parts.append(
            retrieve(
                images[start : start + fold], captions[inside], image_of[inside] - start, measure
            )
        )
    return Retrieval(mean_of([one.i2t for one in parts]), mean_of([one.t2i for one in parts]))
