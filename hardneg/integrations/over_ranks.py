"""A loss over the rows of all ranks, where there are ranks."""

from __future__ import annotations

import torch.distributed as dist
from torch import nn

from hardneg.distributed.across_ranks import AcrossRanks
from hardneg.losses.base import Loss
from hardneg.losses.matryoshka import Matryoshka

__all__ = ["in_process_group", "over_ranks"]


def in_process_group() -> bool:
    """Whether there are other processes to share a batch with."""
    return dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1


def over_ranks(loss: nn.Module) -> nn.Module:
    """The loss over all ranks, with the same parameters; in one process the loss itself."""
    if not in_process_group():
        return loss
    if isinstance(loss, Matryoshka) and isinstance(loss.loss, Loss):
        return Matryoshka(AcrossRanks(loss.loss), loss.dims, loss.weights)
    return loss if isinstance(loss, AcrossRanks) else AcrossRanks(loss)
