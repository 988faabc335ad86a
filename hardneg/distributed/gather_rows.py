"""The rows of all ranks, one rank after the other, where ranks may hold different numbers of rows."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.distributed as dist
from torch import Tensor

from hardneg.distributed.collectives import resolve_ranks
from hardneg.distributed.layout import Layout

__all__ = ["rows_of_ranks"]


def rows_of_ranks(tensors: Sequence[Tensor], group: dist.ProcessGroup) -> list[Tensor]:
    """Every tensor as the concatenation over ranks of its rows, the same on all ranks; no gradient.

    ``tensors`` have one length on this rank, and each its dtype and trailing shape on every rank.
    """
    ranks = resolve_ranks(group)
    here = torch.tensor([len(tensors[0])], device=tensors[0].device)
    lengths = tuple(ranks.all_gather(here).flatten().tolist())
    layout = Layout(lengths, lengths)
    return [layout.joined(ranks.all_gather(layout.padded(one))) for one in tensors]
