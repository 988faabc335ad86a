"""Image-caption retrieval in both directions, as tables of the field report it."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from hardneg.checks import (
    check_alike,
    check_count,
    check_embeddings,
    check_ids,
    check_two_sets,
)
from hardneg.metrics.averages import mean_rank, median_rank, recall_at_k
from hardneg.metrics.best_rank import ranks
from hardneg.metrics.directions import swapped
from hardneg.metrics.relevance import are_given_scores
from hardneg.metrics.repeated_images import check_each_once, without_copies
from hardneg.similarities import Similarity, resolve_similarity

if TYPE_CHECKING:
    from jaxtyping import Float, Int

__all__ = ["DirectionMetrics", "RetrievalMetrics", "coco_folds", "retrieval_metrics"]


@dataclass(frozen=True)
class DirectionMetrics:
    """One direction of retrieval.

    Attributes:
        recall_at_1, recall_at_5, recall_at_10: in percent.
        median_rank, mean_rank: from 1; over folds, the mean of the folds' values.
    """

    recall_at_1: float
    recall_at_5: float
    recall_at_10: float
    median_rank: float
    mean_rank: float

    @classmethod
    def of(cls, ranks: Int[Tensor, "n"]) -> DirectionMetrics:
        """The averages of ranks from 0."""
        one, five, ten = (100 * recall_at_k(ranks, k) for k in (1, 5, 10))
        return cls(one, five, ten, float(median_rank(ranks)), mean_rank(ranks))

    @classmethod
    def mean(cls, several: list[DirectionMetrics]) -> DirectionMetrics:
        """The mean of every value."""
        names = [field.name for field in fields(cls)]
        return cls(*(sum(getattr(one, name) for one in several) / len(several) for name in names))

    @property
    def recall_sum(self) -> float:
        """The sum of the three recalls, in percent."""
        return self.recall_at_1 + self.recall_at_5 + self.recall_at_10

    def __str__(self) -> str:
        return (
            f"R@1 {self.recall_at_1:5.1f}  R@5 {self.recall_at_5:5.1f}  "
            f"R@10 {self.recall_at_10:5.1f}  median rank {self.median_rank:.1f}  "
            f"mean rank {self.mean_rank:.1f}"
        )


@dataclass(frozen=True)
class RetrievalMetrics:
    """Both directions of image-caption retrieval.

    Attributes:
        image_to_text: captions retrieved by image, ``"queries"`` of the losses' directions and of ``both_directions``;
            the best caption of an image counts.
        text_to_image: images retrieved by caption, ``"candidates"`` there.
    """

    image_to_text: DirectionMetrics
    text_to_image: DirectionMetrics

    @property
    def rsum(self) -> float:
        """The sum of the six recalls, in percent: at most 600."""
        return self.image_to_text.recall_sum + self.text_to_image.recall_sum

    def as_dict(self) -> dict[str, float]:
        """All values by name, such as ``image_to_text_recall_at_1``, and ``rsum``."""
        values = {
            f"{direction}_{name}": value
            for direction, metrics in asdict(self).items()
            for name, value in metrics.items()
        }
        return {**values, "rsum": self.rsum}

    def __str__(self) -> str:
        return (
            f"image to text: {self.image_to_text}\n"
            f"text to image: {self.text_to_image}\n"
            f"rsum: {self.rsum:.1f}"
        )


def check_images(images: Tensor, captions: Tensor) -> bool:
    """Embeddings of images and captions that can be compared; whether they are given scores and their transpose."""
    check_embeddings("images", images)
    check_embeddings("captions", captions)
    scored = are_given_scores(images, captions)
    if not scored:
        check_alike("images", images, "captions", captions)
    return scored


def resolve_image_ids(
    images: Tensor, captions: Tensor, image_ids: Tensor | None, caption_ids: Tensor | None
) -> tuple[Int[Tensor, "n"], Int[Tensor, "m"]]:
    """The given ids, or equally many captions an image, in order."""
    n, m, device = len(images), len(captions), images.device
    if image_ids is None and caption_ids is None:
        check_multiple(n, m)
        caption_numbers = torch.arange(m, device=device)
        return torch.arange(n, device=device), caption_numbers // (m // n)
    if image_ids is None or caption_ids is None:
        missing = "image_ids" if image_ids is None else "caption_ids"
        raise ValueError(f"{missing} is missing: pass both or neither; equal ids belong together")
    check_ids("image_ids", image_ids, n, device)
    check_ids("caption_ids", caption_ids, m, device)
    return image_ids, caption_ids


def check_multiple(n: int, m: int) -> None:
    """Equally many captions for every image."""
    if m % n:
        raise ValueError(
            f"{m} captions for {n} images: without ids every image has equally many captions, in "
            "order; pass image_ids and caption_ids"
        )


def retrieval_metrics(
    images: Float[Tensor, "n d"],
    captions: Float[Tensor, "m d"],
    image_ids: Int[Tensor, "n"] | None = None,
    caption_ids: Int[Tensor, "m"] | None = None,
    *,
    similarity: Similarity | str = "cosine",
) -> RetrievalMetrics:
    """R@1, R@5, R@10, median and mean rank in both directions, and their rsum.

    Each image counts once: copies of it would be rivals in text-to-image averages. With ids, copies
    under one id are left out, while different embeddings of one id (views) stay; data whose images are repeated for
    each of their captions, without ids or under different ones, raise. Scores of your own model:
    ``from_scores(retrieval_metrics, scores)``, images by captions.

    Args:
        images: n x d.
        captions: m x d, of the same type and device.
        image_ids: one a row; None: caption j belongs to image ``j // (m / n)``.
        caption_ids: the id of the image to which each caption belongs.
        similarity: as in ``ranks``; images are the queries (of ``Order()``, the specific side).

    Raises:
        ValueError: for mismatched shapes or devices, one-sided ids, m not a multiple of n without
            ids, repeated images that do not share an id, one tensor on both sides, or ids that never meet.
        TypeError: for tensors of another type, or an unusable similarity.

    Example:
        >>> print(retrieval_metrics(torch.eye(2), torch.eye(2).repeat_interleave(5, 0)))
        image to text: R@1 100.0  R@5 100.0  R@10 100.0  median rank 1.0  mean rank 1.0
        text to image: R@1 100.0  R@5 100.0  R@10 100.0  median rank 1.0  mean rank 1.0
        rsum: 600.0

    Source: Faghri et al., VSE++ (BMVC 2018), section 4; checked against the authors' ranks.
    """
    scored, there = check_images(images, captions), resolve_similarity(similarity)
    i_ids, c_ids = resolve_image_ids(images, captions, image_ids, caption_ids)
    if not scored:
        check_two_sets("images", images, "captions", captions, "pass the embeddings of each")
    if image_ids is not None:
        images, i_ids = without_copies(images, i_ids)
    check_each_once(images, captions, by_ids=image_ids is not None)
    captions = images.T if scored else captions
    to_text = ranks(images, captions, i_ids, c_ids, similarity=there)
    to_image = ranks(captions, images, c_ids, i_ids, similarity=swapped(there))
    return RetrievalMetrics(DirectionMetrics.of(to_text), DirectionMetrics.of(to_image))


def coco_folds(
    images: Float[Tensor, "n d"],
    captions: Float[Tensor, "m d"],
    *,
    folds: int = 5,
    similarity: Similarity | str = "cosine",
) -> RetrievalMetrics:
    """The mean of every value over consecutive folds.

    COCO 1K is the mean over five folds of 1,000 images and 5,000 captions.

    Args:
        images: n x d, n a multiple of ``folds``; each image once.
        captions: m x d, equally many an image, in order.
        folds: how many.
        similarity: as in ``retrieval_metrics``.

    Raises:
        ValueError: if the counts do not divide; else as ``retrieval_metrics``.

    Example:
        >>> coco_folds(torch.eye(10), torch.eye(10).repeat_interleave(5, 0)).rsum
        600.0

    Source: Karpathy and Fei-Fei (CVPR 2015), section 4.2; Faghri et al., VSE++ (BMVC 2018),
    table 1.
    """
    scored = check_images(images, captions)
    folds = check_count("folds", folds)
    check_multiple(len(images), len(captions))
    if len(images) % folds:
        raise ValueError(
            f"{len(images)} images in {folds} folds: expected a multiple, such as 5,000 images in 5"
        )
    parts = zip(images.chunk(folds), captions.chunk(folds), strict=True)
    if scored:  # of each fold the scores of its images and captions
        columns = len(captions) // folds
        blocks = [i[:, f * columns :][:, :columns] for f, (i, _) in enumerate(parts)]
        parts = zip(blocks, [block.T for block in blocks], strict=True)
    each = [retrieval_metrics(i, c, similarity=similarity) for i, c in parts]
    return RetrievalMetrics(
        DirectionMetrics.mean([one.image_to_text for one in each]),
        DirectionMetrics.mean([one.text_to_image for one in each]),
    )
