"""The rows of all ranks, one rank after the other, where ranks may hold different numbers of rows."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.distributed as dist
from torch import Tensor

__all__ = ["rows_of_ranks"]


def rows_of_ranks(tensors: Sequence[Tensor], group: dist.ProcessGroup) -> list[Tensor]:
    """Every tensor as the concatenation over ranks of its rows, the same on all ranks; no gradient.

    ``tensors`` have one length on this rank, and each its dtype and trailing shape on every rank.
    Shards are padded to the longest one for the way, since a gather moves equal sizes.
    """
    here = torch.tensor([len(tensors[0])], device=tensors[0].device)
    lengths = [torch.empty_like(here) for _ in range(dist.get_world_size(group))]
    dist.all_gather(lengths, here, group=group)
    return [
        concatenated(one.detach(), [int(length) for length in lengths], group) for one in tensors
    ]


def concatenated(rows: Tensor, lengths: list[int], group: dist.ProcessGroup) -> Tensor:
    """One tensor's rows on every rank, in the order of ranks."""
    padded = rows.new_zeros(max(lengths), *rows.shape[1:])
    padded[: len(rows)] = rows
    shards = [torch.empty_like(padded) for _ in lengths]
    dist.all_gather(shards, padded, group=group)
    return torch.cat([shard[:length] for shard, length in zip(shards, lengths, strict=True)])
