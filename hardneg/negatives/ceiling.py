"""An upper bound on the score of a negative, relative to the positive's."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from hardneg.checks import check_number, number_field

__all__ = ["Ceiling", "PositiveAware", "Qwen3Mask"]


@dataclass(frozen=True)
class Ceiling:
    """Admit only negatives that score below ``p - (1 - relative) * |p| + offset``, p the positive's score.

    A term that belongs to one (anchor, positive) pair takes that positive. Where negatives belong to the anchor
    as a whole (pair losses, SupCon, multi-similarity, circle, SigLIP with several positives) it is the
    highest-scoring of its positives.

    With scores above 0 that is ``relative * p + offset``; the absolute value makes it a reduction
    for negative scores (distances) too. ``Ceiling()`` is "below the positive", the semi-hard bound;
    ``Ceiling(relative=0.95)`` drops candidates that are nearly as good as the positive, which are often
    unlabelled positives (positive-aware mining: Moreira et al., NV-Retriever, 2024). The bound is strict, and a
    score that equals it to within rounding is not below it (docs/design.md, Semantics): a duplicate of the
    positive never is.
    """

    relative: float = 1.0
    offset: float = 0.0

    def __post_init__(self) -> None:
        number_field(self, "relative")
        number_field(self, "offset")

    @property
    def steepness(self) -> float:
        """By how much the bound can move with the positive's score, at least 1."""
        return 1.0 + abs(1.0 - self.relative)

    def __call__(self, positive_scores: Tensor) -> Tensor:
        """The bound of each positive's score."""
        bounds = positive_scores
        if self.relative != 1.0:
            bounds = bounds - (1.0 - self.relative) * bounds.abs()
        return bounds + self.offset


def PositiveAware(share: float = 0.95) -> Ceiling:
    """Only negatives that score below this share of the positive's score.

    Raises:
        ValueError: for a share that can only be a percentage.

    Source: Moreira et al., "NV-Retriever: Improving text embedding models with effective hard-negative mining", 2024.
    """
    if check_number("share", share) > 10:
        raise ValueError(
            f"share is {share:g}: expected one of the positive's score, such as 0.95 for 95 %"
        )
    return Ceiling(relative=share)


def Qwen3Mask(margin: float = 0.1) -> Ceiling:
    """Only negatives that score at most this much above the positive.

    Source: Zhang et al., "Qwen3 Embedding", 2025, the factor m of the loss.
    """
    return Ceiling(offset=margin)
