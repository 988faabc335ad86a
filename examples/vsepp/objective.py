"""The loss of a run, its negatives step by step, and a watch for its collapse."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
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


@dataclass
class CollapseWatch:
    """Tells when the loss sits where equal scores put it: at the margin for each counted negative.

    For max of hinges that is 2 x batch x margin. ``window`` steps in a row within ``tolerance`` of
    it are a plateau; ``streak`` counts the steps, and survives in checkpoints.
    """

    settings: Loss
    window: int = 200
    tolerance: float = 0.02
    streak: int = 0

    def see(self, loss: float, pairs: int, warming_up: bool, queued: int = 0) -> bool:
        """Take in the loss of one step, whose pairs also met ``queued`` earlier ones. True once, at
        the step that completes a window on the plateau.
        """
        plateau = 2 * self.settings.margin * pairs * self.terms(pairs - 1 + queued, warming_up)
        near = pairs > 1 and abs(loss - plateau) <= self.tolerance * plateau
        self.streak = self.streak + 1 if near else 0
        return self.streak == self.window

    def terms(self, others: int, warming_up: bool) -> int:
        """How many hinges stand at the margin for each pair and direction, among so many others."""
        if warming_up or self.settings.negatives == "all":
            return others
        return min(8, others) if self.settings.negatives == "top8" else 1

    def advice(self, step: int) -> str:
        """What to say to the person who waits."""
        return (
            f"step {step}: for {self.window} steps the loss has been within {self.tolerance:.0%} "
            "of 2 x batch x margin, its value when every score is equal: the embeddings have "
            "collapsed or have not begun to separate. It may still leave by itself; what helps is "
            "a warm-up (--warmup-epochs 1), the selective guard (--negatives selective), or a "
            "lower --learning-rate (fine-tuning: 2e-5)"
        )
