"""A step's loss, and its gradients in the weights: of all pairs at once, or of a chunk at a time."""

from __future__ import annotations

from functools import partial
from typing import Any

from accelerate import Accelerator
from torch import Tensor, nn

from hardneg import GradCache
from vsepp.data import Batch
from vsepp.reach import InBatch, InBatchAndQueue


class Gradients:
    """Forward, loss and backward of a batch. ``chunk`` pairs are encoded at a time; 0: all."""

    def __init__(
        self,
        accelerator: Accelerator,
        model: nn.Module,
        objective: InBatch | InBatchAndQueue,
        chunk: int,
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
            return cache.backward(loss, inputs)
        value = loss(*self.model(*inputs))
        propagate(value)
        return value.detach()

    def loss(self, ids: Tensor, negatives: Any, images: Tensor, captions: Tensor) -> Tensor:
        """The objective in float32; from then on these pairs are earlier ones."""
        images, captions = images.float(), captions.float()
        value = self.objective(images, captions, ids, negatives)
        self.objective.remember(images, captions, ids)
        return value
