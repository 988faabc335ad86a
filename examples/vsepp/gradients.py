"""A step's loss, and its gradients in the weights: of all pairs at once, or of a chunk at a time."""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor, nn

from hardneg import GradCache
from vsepp.data.pairs import Batch


class Gradients:
    """Forward, loss and backward of a batch, in the reach and the chunks that the settings ask for."""

    def __init__(
        self, accelerator: Accelerator, model: nn.Module, objective: nn.Module, chunk: int
    ) -> None:
        self.accelerator, self.model = accelerator, model
        self.objective, self.chunk = objective, chunk

    def __call__(self, batch: Batch, negatives: Any) -> Tensor:
        """The loss, detached."""
        inputs = (batch.images, batch.words, batch.lengths)
        loss = partial(self.loss, batch.image_ids, negatives)
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
                assert number.grad is not None
                number.grad = self.accelerator.reduce(number.grad, "mean")

    def loss(self, ids: Tensor, negatives: Any, images: Tensor, captions: Tensor) -> Tensor:
        """The objective in float32; from then on these pairs are earlier ones."""
        images, captions = images.float(), captions.float()
        value = self.objective(images, captions, ids, negatives)
        self.objective.remember(images, captions, ids)
        return value

    def of_all(self, *counts: int) -> list[int]:
        """Counts of this process, summed over all."""
        if self.accelerator.num_processes == 1:
            return list(counts)
        here = torch.tensor(counts, device=self.accelerator.device)
        return self.accelerator.reduce(here, "sum").tolist()
