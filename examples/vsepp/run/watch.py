"""The losses of a run as they come in, and a watch for the collapse of its embeddings."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

from torch import Tensor

from vsepp.negatives import counted
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
    """Tells when the loss sits where equal scores put it.

    For max of hinges that is 2 x batch x margin, for cross-entropies the log of the number of
    candidates. ``window`` steps in a row within ``tolerance`` of
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
        others = pairs - 1 + queued
        if self.settings.negatives_from:
            others = min(others, self.settings.negatives_from)
        plateau = self.plateau(pairs, others, warming_up)
        near = pairs > 1 and abs(loss - plateau) <= self.tolerance * plateau
        self.streak = self.streak + 1 if near else 0
        return self.streak == self.window

    def plateau(self, pairs: int, others: int, warming_up: bool) -> float:
        """The loss of so many pairs whose scores are all equal; NaN where it tells nothing."""
        terms = others if warming_up else counted(self.settings, others)
        if self.settings.loss == "contrastive":
            return 2 * self.settings.margin * pairs * terms
        return math.log(1 + terms) if self.settings.loss == "infonce" else math.nan

    @property
    def equal(self) -> str:
        """Where the loss stands when every score is equal."""
        hinges = self.settings.loss == "contrastive"
        return (
            "2 x batch x margin for each counted negative" if hinges else "the log of their number"
        )

    def advice(self, step: int) -> str:
        """What to say to the person who waits."""
        return (
            f"step {step}: for {self.window} steps the loss has been within {self.tolerance:.0%} "
            f"of its value when every score is equal ({self.equal}): "
            "the embeddings have collapsed or have not begun to separate. It may still leave by itself; what helps is "
            "a warm-up (--warmup-epochs 1), the selective guard (--negatives selective), or a "
            "lower --learning-rate (fine-tuning: 2e-5)"
        )
