"""The collectives, without gradients, on the group that a loss is shared by."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import Tensor

__all__ = ["GATHER", "SCATTER", "Ranks", "resolve_ranks"]

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
        total = x.detach().clone(memory_format=torch.contiguous_format)
        dist.all_reduce(total, dist.ReduceOp.SUM, group=self.group)
        return total

    def max(self, x: Tensor) -> Tensor:
        """The maximum over ranks, on every rank."""
        largest = x.detach().clone(memory_format=torch.contiguous_format)
        dist.all_reduce(largest, dist.ReduceOp.MAX, group=self.group)
        return largest

    def stacked(self, x: Tensor) -> Tensor:
        """Every rank's tensor, all of one shape, in a new first dimension."""
        out = x.new_empty(self.size * x.shape[0], *x.shape[1:])
        getattr(dist, GATHER)(out, x.detach().contiguous(), group=self.group)
        return out.view(self.size, *x.shape)

    def exchanged(self, x: Tensor) -> Tensor:
        """Entry r of the first dimension goes to rank r; what comes back is stacked by sender."""
        x = x.contiguous()
        out = torch.empty_like(x)
        dist.all_to_all_single(out, x, group=self.group)
        return out

    def sum_of_own(self, x: Tensor) -> Tensor:
        """Entry ``rank`` of the first dimension, summed over ranks."""
        x = x.contiguous()
        out = torch.empty_like(x[0])
        getattr(dist, SCATTER)(out, x.flatten(0, 1), dist.ReduceOp.SUM, group=self.group)
        return out

    def of_first(self, x: Tensor) -> Tensor:
        """The tensor of the group's first rank."""
        out = x.detach().clone()
        dist.broadcast(out, group=self.group, group_src=0)
        return out

    def pass_on(self, x: Tensor, out: Tensor) -> list[dist.Work]:
        """Begin to send ``x`` to the next rank and to receive the previous one's into ``out``."""
        following, previous = (self.rank + 1) % self.size, (self.rank - 1) % self.size
        return dist.batch_isend_irecv(
            [
                dist.P2POp(dist.isend, x, group=self.group, group_peer=following),
                dist.P2POp(dist.irecv, out, group=self.group, group_peer=previous),
            ]
        )


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
