"""A step's loss, and its gradients in the weights: of all pairs at once, or of a chunk at a time."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from hardneg import GradCache
from hardneg.encoders import Members
from vsepp.data.pairs import Batch

OfEmbeddings = Callable[[Tensor, Tensor], Tensor]


@dataclass(frozen=True)
class Teacher:
    """A model whose scores of a batch, as probabilities, are targets beside the pairs themselves.

    Momentum distillation (Li et al., "Align before Fuse", NeurIPS 2021, section 3.4): a caption that
    fits another image too is no wrong answer there. Holds the scores of the process's own batch.
    """

    model: nn.Module
    share: float
    temperature: float

    def beside(self, loss: OfEmbeddings, inputs: tuple[Tensor, ...]) -> OfEmbeddings:
        """The loss with a share for the targets of these inputs; the loss itself without any pairs."""
        if len(inputs[0]) == 0:
            return loss
        with torch.no_grad():
            targets = self.logits(*(one.float() for one in self.model(*inputs)))

        def mixed(images: Tensor, captions: Tensor) -> Tensor:
            logits = self.logits(images.float(), captions.float())
            there = cross_entropy(logits, targets.softmax(1))
            back = cross_entropy(logits.T, targets.T.softmax(1))
            return (1 - self.share) * loss(images, captions) + self.share * (there + back) / 2

        return mixed

    def logits(self, images: Tensor, captions: Tensor) -> Tensor:
        """Scores of all pairs, divided by the temperature."""
        return images @ captions.T / self.temperature


def teacher_at(step: int, steps_per_epoch: int, settings: Loss, model: nn.Module) -> Teacher | None:
    """The teacher of a step; None where there are no soft targets, or none yet."""
    if not settings.soft_targets or step < settings.soft_after * steps_per_epoch:
        return None
    return Teacher(model, settings.soft_targets, settings.temperature)


def mean_over_members(loss: OfEmbeddings, members: int, images: Tensor, captions: Tensor) -> Tensor:
    """The mean of the loss of each member of an ensemble, whose embeddings lie side by side."""
    pairs = zip(Members.apart(images, members), Members.apart(captions, members), strict=True)
    return torch.stack([loss(*pair) for pair in pairs]).mean()


class Gradients:
    """Forward, loss and backward of a batch, in the reach and the chunks that the settings ask for."""

    def __init__(
        self,
        accelerator: Accelerator,
        model: nn.Module,
        objective: nn.Module,
        chunk: int,
        members: int = 1,
    ) -> None:
        self.accelerator, self.model, self.members = accelerator, model, members
        self.objective, self.chunk = objective, chunk

    def __call__(self, batch: Batch, negatives: Any, teacher: Teacher | None = None) -> Tensor:
        """The loss, detached; with a teacher, a part of it follows the teacher's scores."""
        inputs = (batch.images, batch.words, batch.lengths)
        loss = partial(self.loss, batch, negatives)
        if teacher is not None:
            loss = teacher.beside(loss, inputs)
        if self.members > 1:
            loss = partial(mean_over_members, loss, self.members)
        propagate = self.accelerator.backward
        if self.chunk:
            cache = GradCache(self.model, chunk_size=self.chunk, backward=propagate)
            value = cache.backward(loss, inputs)
        else:
            value = loss(*self.model(*inputs))
            propagate(value)
        self.average_of_objective()
        return value.detach()

    def average_of_objective(self) -> None:
        """What the loss itself learns has one gradient in all processes; nobody wraps it."""
        if self.accelerator.num_processes > 1:
            for number in self.objective.parameters():
                # a process without pairs did not ask the loss
                here = torch.zeros_like(number) if number.grad is None else number.grad
                number.grad = self.accelerator.reduce(here, "mean")

    def loss(self, batch: Batch, negatives: Any, images: Tensor, captions: Tensor) -> Tensor:
        """The objective in float32; from then on these pairs are earlier ones."""
        images, captions, ids = images.float(), captions.float(), batch.image_ids
        own = {} if batch.own_ids is None else {"own_ids": batch.own_ids}
        value = self.objective(images, captions, ids, negatives, **own)
        self.objective.remember(images, captions, ids)
        return value

    def of_all(self, *counts: int) -> list[int]:
        """Counts of this process, summed over all."""
        if self.accelerator.num_processes == 1:
            return list(counts)
        here = torch.tensor(counts, device=self.accelerator.device)
        return self.accelerator.reduce(here, "sum").tolist()
