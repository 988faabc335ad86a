"""The losses of a run as they come in, and a watch for the collapse of its embeddings."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

from torch import Tensor

from vsepp.objective import warmup_steps
from vsepp.run.progress import Progress
from vsepp.settings import Loss


class Seen(NamedTuple):
    """A step's loss, how many pairs it was taken over, and how many earlier ones they met."""

    step: int
    loss: Tensor
    pairs: int
    queued: int


class Losses:
    """Losses that wait to be read: reading each at once would hold up a GPU."""

    def __init__(self, settings: Loss, steps_per_epoch: int) -> None:
        self.watch = CollapseWatch(settings)
        self.warmup = warmup_steps(settings, steps_per_epoch)
        self.waiting: list[Seen] = []

    def read(self, progress: Progress) -> list[str]:
        """Add up the losses since the last look; gives what there is to say about them."""
        advice = []
        for step, loss, pairs, queued in self.waiting:
            value = float(loss)
            if not math.isfinite(value):
                raise ValueError(
                    f"the loss is {value} at step {step}: lower --learning-rate, or train with "
                    "--precision bf16 or no; the last checkpoint is from before"
                )
            progress.loss_total += value
            if self.watch.see(value, pairs, step < self.warmup, queued):
                progress.collapse_steps.append(step)
                advice.append(self.watch.advice(step))
        progress.collapse_streak = self.watch.streak
        self.waiting.clear()
        return advice


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
            "of its value when every score is equal (2 x batch x margin for each counted negative): "
            "the embeddings have collapsed or have not begun to separate. It may still leave by itself; what helps is "
            "a warm-up (--warmup-epochs 1), the selective guard (--negatives selective), or a "
            "lower --learning-rate (fine-tuning: 2e-5)"
        )
