"""How a model embeds: batch by batch, in evaluation mode."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn

__all__ = ["check_batch", "evaluated"]


@contextmanager
def evaluated(model: nn.Module) -> Iterator[None]:
    """Evaluation mode, and the mode before it again."""
    training = model.training
    model.eval()
    try:
        yield
    finally:
        model.train(training)


def check_batch(size: int) -> int:
    """Refuse a batch of nothing."""
    if size < 1:
        raise ValueError(f"batch_size is {size}: expected at least 1")
    return size
