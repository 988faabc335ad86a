"""A step's loss, and its gradients in the weights: of all pairs at once, or of a chunk at a time."""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor, nn

from hardneg import GradCache
from vsepp.data.pairs import Batch
from vsepp.objective import build_objective
from vsepp.settings import Settings


class Gradients:
    """Forward, loss and backward of a batch, in the reach and the chunks that the settings ask for."""

    def __init__(self, accelerator: Accelerator, model: nn.Module, settings: Settings) -> None:
        self.accelerator, self.model = accelerator, model
        self.chunk, ranks = settings.schedule.chunk, accelerator.num_processes
        self.objective = build_objective(settings.loss, settings.model.embed_dim, ranks)
        self.objective.to(accelerator.device)

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

    def of_all(self, *counts: int) -> list[int]:
        """Counts of this process, summed over all."""
        if self.accelerator.num_processes == 1:
            return list(counts)
        here = torch.tensor(counts, device=self.accelerator.device)
        return self.accelerator.reduce(here, "sum").tolist()
