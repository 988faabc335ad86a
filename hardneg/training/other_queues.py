"""Calls that suit a memory of another library: what to write instead."""

from __future__ import annotations

import inspect
from typing import Any, NoReturn, Self

from torch import nn

__all__ = ["BesideTheLoss"]

WIDTH, SIZE = "write width=", "write size="
BATCH = "it belongs to the update of each step, as in queue.update(embeddings, ids)"
ELSEWHERE = {
    **dict.fromkeys(("embedding_size", "embedding_dim", "feature_dim", "dim"), WIDTH),
    **dict.fromkeys(("memory_size", "memory_bank_size", "queue_size", "capacity", "K"), SIZE),
    "miner": "it belongs to the loss, as negatives=",
    **dict.fromkeys(("embeddings", "ids", "labels"), BATCH),
    **dict.fromkeys(("gather_distributed", "world_size"), "write group=, the ranks that share it"),
}
"""Keywords of other libraries."""


class BesideTheLoss(nn.Module):
    """A module that neither wraps a loss nor is called, as memories of other libraries do and are."""

    def __new__(cls, *choices: Any, **named: Any) -> Self:
        """Refuse a loss, and keywords that the constructor does not have."""
        if "loss" in named or (choices and isinstance(choices[0], nn.Module)):
            raise TypeError(
                f"{cls.__name__} holds embeddings and wraps no loss: queue = MemoryQueue(size, width), then "
                "loss(queries, candidates) with candidates from queue.extend(...)"
            )
        for name in named:
            if name in ELSEWHERE and name not in inspect.signature(cls).parameters:
                raise TypeError(
                    f"{cls.__name__} got an unexpected keyword argument {name!r}: {ELSEWHERE[name]}"
                )
        return super().__new__(cls)

    def forward(self, *given: Any, **named: Any) -> NoReturn:
        """Refuse a call, naming the methods.

        Raises:
            TypeError: always.
        """
        raise TypeError(
            f"{type(self).__name__} is not called: candidates, ids = queue.extend(candidates, ids) before the loss, "
            "queue.update(candidates, ids) after it"
        )
