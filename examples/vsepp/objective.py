"""The loss of a run, and its negatives step by step."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from hardneg import All, ContrastiveLoss, Dot, Hardest, Order, SelectiveHardest, TopK, Warmup
from vsepp.retrieval import similarity_of
from vsepp.settings import Loss

NEGATIVES = {
    "all": All(),
    "hardest": Hardest(),
    "selective": SelectiveHardest(),
    "top8": TopK(8),
}


def build_loss(
    settings: Loss, similarity: Dot | Order | None = None, directions: str = "both"
) -> ContrastiveLoss:
    """Hinges summed over the batch. The encoders normalise, so cosine is their inner product."""
    return ContrastiveLoss(
        margin=settings.margin,
        similarity=similarity_of(settings.measure) if similarity is None else similarity,
        directions=directions,
        reduction="sum",
    )


def negatives_by_step(settings: Loss, steps_per_epoch: int) -> Callable[[int], Any]:
    """Which negatives count at a step: all of them while warming up, then the chosen ones."""
    return Warmup(All(), NEGATIVES[settings.negatives], warmup_steps(settings, steps_per_epoch))


def warmup_steps(settings: Loss, steps_per_epoch: int) -> int:
    """How many steps the warm-up lasts."""
    return round(settings.warmup_epochs * steps_per_epoch)
