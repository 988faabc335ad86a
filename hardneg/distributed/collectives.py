"""The collectives, without gradients, on the group that a loss is shared by."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from hardneg.distributed.lost_ranks import naming_lost_ranks, raise_naming_lost_ranks

__all__ = ["GATHER", "SCATTER", "Arriving", "Ranks", "resolve_ranks"]

# torch 2.14 gave both collectives new names, and the old ones warn there.
GATHER = "all_gather_single" if hasattr(dist, "all_gather_single") else "all_gather_into_tensor"
SCATTER = (
    "reduce_scatter_single" if hasattr(dist, "reduce_scatter_single") else "reduce_scatter_tensor"
)
"""The names that ``torch.distributed`` has for a gather into, and a reduction out of, one tensor."""


@dataclass(frozen=True, eq=False)
class Ranks:
    """A process group. Only collectives that gloo and NCCL both have, none of them averaging.

    Attributes:
        group: as ``torch.distributed`` knows it; None for all processes.
        rank, size: this process's number in the group, and how many there are.
        device: where the backend takes tensors that are not the caller's.
    """

    group: dist.ProcessGroup | None
    rank: int
    size: int
    device: torch.device

    def sum(self, x: Tensor) -> Tensor:
        """The sum over ranks, on every rank."""
        return self.reduced(x, dist.ReduceOp.SUM)

    def max(self, x: Tensor) -> Tensor:
        """The maximum over ranks, on every rank."""
        return self.reduced(x, dist.ReduceOp.MAX)

    def reduced(self, x: Tensor, op: dist.ReduceOp.RedOpType) -> Tensor:
        """The reduction over ranks, on every rank."""
        out = x.detach().resolve_neg().clone(memory_format=torch.contiguous_format)
        self.call("an all-reduce", dist.all_reduce, out, op)
        return out

    def all_gather(self, x: Tensor) -> Tensor:
        """Every rank's tensor, all of one shape, in a new first dimension."""
        out = x.new_empty(self.size * x.shape[0], *x.shape[1:])
        self.call("an all-gather", getattr(dist, GATHER), out, sendable(x))
        return out.view(self.size, *x.shape)

    def all_to_all(self, x: Tensor) -> Tensor:
        """Entry r of the first dimension goes to rank r; what comes back is stacked by sender."""
        out = x.new_empty(x.shape)
        self.call("an all-to-all", dist.all_to_all_single, out, sendable(x))
        return out

    def reduce_scatter(self, x: Tensor) -> Tensor:
        """Entry ``rank`` of the first dimension, summed over ranks."""
        out, parts = x.new_empty(x.shape[1:]), sendable(x).flatten(0, 1)
        self.call("a reduce-scatter", getattr(dist, SCATTER), out, parts, dist.ReduceOp.SUM)
        return out

    def broadcast(self, x: Tensor) -> Tensor:
        """The tensor of the group's first rank."""
        out = x.detach().resolve_neg().clone(memory_format=torch.contiguous_format)
        self.call("a broadcast", dist.broadcast, out, group_src=0)
        return out

    def send_to_next(self, x: Tensor) -> Arriving:
        """Begin to send ``x`` to the next rank and to receive the previous one's, of the same shape."""
        following, previous = (self.rank + 1) % self.size, (self.rank - 1) % self.size
        out, x = x.new_empty(x.shape), sendable(x)
        both = [
            dist.P2POp(dist.isend, x, group=self.group, group_peer=following),
            dist.P2POp(dist.irecv, out, group=self.group, group_peer=previous),
        ]
        with naming_lost_ranks(self.group, RING):
            return Arriving(out, x, dist.batch_isend_irecv(both), self.group)

    def call(
        self, name: str, collective: Callable[..., object], *given: object, **more: Any
    ) -> None:
        """A collective of the group, whose error names the rank that is gone."""
        try:
            collective(*given, group=self.group, **more)
        except RuntimeError as error:
            raise_naming_lost_ranks(error, self.group, name)


RING = "an exchange with the neighbours in the ring"


@dataclass(frozen=True, eq=False)
class Arriving:
    """What the previous rank sends.

    Attributes:
        received, sent: the memory of both, which must last until they are there.
    """

    received: Tensor
    sent: Tensor
    works: list[dist.Work]
    group: dist.ProcessGroup | None

    def wait(self) -> Tensor:
        """The previous rank's tensor, once it is here and the own one is sent."""
        with naming_lost_ranks(self.group, RING):
            for work in self.works:
                work.wait()
        return self.received


def sendable(x: Tensor) -> Tensor:
    """The numbers of a tensor one after the other in memory: collectives take no strides."""
    return x.detach().resolve_neg().contiguous()


def resolve_ranks(group: dist.ProcessGroup | None) -> Ranks:
    """The group, found when a loss is called.

    Raises:
        RuntimeError: without an initialised process group, or in a process outside the group.
    """
    if not dist.is_available() or not dist.is_initialized():
        raise RuntimeError(
            "AcrossRanks needs a process group and there is none: start the script with torchrun and call "
            "torch.distributed.init_process_group(...) first, or use the loss without AcrossRanks"
        )
    rank, size = dist.get_rank(group), dist.get_world_size(group)
    if rank < 0:
        raise RuntimeError(
            f"process {dist.get_rank()} is not in the group: use AcrossRanks, or a queue that ranks share, in the "
            "group's members only"
        )
    on_cpu = dist.get_backend(group) in ("gloo", "mpi") or not torch.cuda.is_available()
    device = torch.device("cpu") if on_cpu else torch.device("cuda", torch.cuda.current_device())
    return Ranks(group, rank, size, device)
