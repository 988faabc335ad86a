"""Two encoders and a loss as a ``LightningModule``.

Imported on demand: ``pip install 'hardneg[lightning]'``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import fields
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from hardneg.checks import check_count, check_type
from hardneg.extras import require
from hardneg.integrations.over_ranks import over_ranks
from hardneg.losses.base import PairLoss
from hardneg.losses.matryoshka import Matryoshka
from hardneg.losses.mining_statistics import MiningStatistics
from hardneg.training.grad_cache import GradCache

require("lightning", "lightning", "hardneg.integrations.lightning")

from lightning.pytorch import LightningModule  # noqa: E402, behind the message

__all__ = ["ContrastiveModule"]

Optimizer = Callable[[Iterable[nn.Parameter]], torch.optim.Optimizer]
ADAMW: Optimizer = partial(torch.optim.AdamW, lr=1e-4)


class ContrastiveModule(LightningModule):  # type: ignore[misc]
    """Trains two encoders by a loss on pairs, over the rows of all ranks.

    A batch is ``(queries, candidates)`` or ``(queries, candidates, ids)``: what each encoder takes, and n integers;
    pairs of equal ids are no negatives of each other. Logs ``train/loss``, ``val/loss`` and, at the steps that the
    trainer logs, the loss's ``MiningStatistics`` as ``mining/gap`` and so on, for which no step waits.

    Args:
        first, second: the encoders of queries and candidates; the same module may stand for both.
        loss: on pairs, or ``Matryoshka`` around one; its parameters are trained too.
        optimizer: makes an optimizer of the parameters, such as ``partial(torch.optim.AdamW, lr=1e-4)``, the
            default. Override ``configure_optimizers`` for schedules.
        chunk_size: rows that are encoded at a time by gradient caching (``GradCache``); None: all at once.
        log_statistics: whether to compute statistics at the steps that are logged.

    Raises:
        ValueError, TypeError: naming the argument, what was expected, and what came.

    Example:
        >>> from hardneg import InfoNCELoss, Learned
        >>> images, texts = nn.Linear(8, 4), nn.Linear(6, 4)
        >>> module = ContrastiveModule(images, texts, InfoNCELoss(Learned(0.07)))
        >>> # lightning.pytorch.Trainer(devices=8, strategy="ddp").fit(module, loader)
    """

    def __init__(
        self,
        first: nn.Module,
        second: nn.Module,
        loss: nn.Module,
        *,
        optimizer: Optimizer = ADAMW,
        chunk_size: int | None = None,
        log_statistics: bool = True,
    ) -> None:
        super().__init__()
        check_type("loss", loss, PairLoss, Matryoshka)
        check_type("log_statistics", log_statistics, bool)
        if chunk_size is not None:
            check_count("chunk_size", chunk_size)
        self.first, self.second, self.loss = first, second, loss
        self.optimizer, self.chunk_size = optimizer, chunk_size
        self.log_statistics = log_statistics

    def forward(self, queries: Any, candidates: Any) -> tuple[Tensor, Tensor]:
        """The embeddings of both sides."""
        return encoded(self.first, queries), encoded(self.second, candidates)

    def training_step(self, batch: Sequence[Any], batch_idx: int) -> Tensor:
        """Compute, and log, the loss of a batch."""
        due = (self.global_step + 1) % self.trainer.log_every_n_steps == 0
        value, statistics, _ = self.loss_of(batch, self.log_statistics and due)
        self.log("train/loss", value.detach(), prog_bar=True)
        if statistics is not None:
            numbers = {f"mining/{f.name}": getattr(statistics, f.name) for f in fields(statistics)}
            self.log_dict({name: x.float() for name, x in numbers.items()})
        return value

    def validation_step(self, batch: Sequence[Any], batch_idx: int) -> None:
        """Log the loss of a batch."""
        value, _, rows = self.loss_of(batch, False)
        self.log("val/loss", value, prog_bar=True, batch_size=rows)

    def loss_of(
        self, batch: Sequence[Any], return_stats: bool
    ) -> tuple[Tensor, MiningStatistics | None, int]:
        """The loss of a batch of all ranks, its statistics where they are asked for, and the rows of this rank."""
        queries, candidates, *ids = batch
        loss, found, rows = over_ranks(self.loss), list[MiningStatistics](), 0
        named = {"query_ids": ids[0], "candidate_ids": ids[0]} if ids else {}

        def value_of(*embeddings: Tensor) -> Tensor:
            nonlocal rows
            rows = len(embeddings[0])
            value = loss(*embeddings, **named, return_stats=return_stats)
            if return_stats:
                value, statistics = value
                found.append(statistics)
            return value  # type: ignore[no-any-return]

        if self.chunk_size is None:
            value = value_of(*self(queries, candidates))
        else:
            cache = GradCache(self.first, self.second, chunk_size=self.chunk_size)
            value = cache(value_of, queries, candidates)
        return value, found[0] if found else None, rows

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """See ``LightningModule``."""
        return self.optimizer(self.parameters())


def encoded(encoder: nn.Module, inputs: Any) -> Tensor:
    """An encoder's embeddings of its inputs: a tensor, positional arguments, or named ones."""
    if isinstance(inputs, dict):
        found: Tensor = encoder(**inputs)
        return found
    arguments = inputs if isinstance(inputs, tuple | list) else (inputs,)
    of_arguments: Tensor = encoder(*arguments)
    return of_arguments
