"""Which queries this process ranks, where ranks share the work of a metric, and their results put together."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from itertools import accumulate
from typing import NoReturn

import torch
from torch import Tensor

from hardneg.distributed.collectives import Ranks
from hardneg.distributed.layout import Layout

__all__ = ["WorkShare", "all_values", "gathered", "rows_here", "sharing_work"]


@dataclass(frozen=True, eq=False)
class WorkShare:
    """A metric of all queries, of which each rank ranks some.

    Attributes:
        ranks: the process group.
        lengths: how many queries each rank holds, where it can rank no others; None: as many for each.
    """

    ranks: Ranks
    lengths: tuple[int, ...] | None = None

    def layout(self, n: int) -> Layout:
        """The queries of every rank, one rank after the other."""
        size = self.ranks.size
        even = tuple(n * (r + 1) // size - n * r // size for r in range(size))
        lengths = self.lengths or even
        return Layout(lengths, lengths)

    def rows(self, n: int) -> slice:
        """The queries of this rank, out of n."""
        layout = self.layout(n)
        ends = list(accumulate(layout.lengths))
        end = ends[self.ranks.rank]
        return slice(end - layout.lengths[self.ranks.rank], end)

    def joined(self, values: Tensor) -> Tensor:
        """The values of all queries, of which this rank has set those of its own."""
        layout = self.layout(len(values))
        return gathered(values[self.rows(len(values))], layout, self.ranks)


CURRENT: ContextVar[WorkShare | None] = ContextVar("hardneg_metrics_work_share", default=None)


@contextmanager
def sharing_work(share: WorkShare) -> Iterator[None]:
    """Metrics computed inside are those of all ranks: each ranks its share, all get all values."""
    token = CURRENT.set(share)
    try:
        yield
    finally:
        CURRENT.reset(token)


def rows_here(n: int) -> slice:
    """The queries, out of n, that this process ranks."""
    share = CURRENT.get()
    return slice(0, n) if share is None else share.rows(n)


def all_values(values: Tensor, blocks: Iterable[tuple[slice, Tensor]]) -> Tensor:
    """The values with those of the blocks filled in, of all ranks where they share the work.

    Raises:
        RuntimeError: on the other ranks, where one fails; there its own error.
    """
    share, error = CURRENT.get(), None
    try:
        for rows, found in blocks:
            values[rows] = found
    except Exception as found_error:  # others wait in a collective: whatever it is, they must know
        if share is None:
            raise
        error = found_error
    if share is None:
        return values
    raise_on_all(error, share.ranks)
    return share.joined(values)


def raise_on_all(error: Exception | None, ranks: Ranks) -> None:
    """Raise on every rank where one has failed."""
    failed = torch.zeros(ranks.size, dtype=torch.long, device=ranks.device)
    failed[ranks.rank] = int(error is not None)
    bad = ranks.max(failed).nonzero().flatten().tolist()
    if error is not None:
        raise error
    if bad:
        raise_for(bad[0])


def raise_for(rank: int) -> NoReturn:
    """The error of the ranks beside the one that failed."""
    raise RuntimeError(f"across_ranks: rank {rank} failed in the metric; its own message says why")


def gathered(x: Tensor, layout: Layout, ranks: Ranks) -> Tensor:
    """The rows of all ranks, on the device of this rank's; sent from where the group takes tensors."""
    sent = x if x.device.type == ranks.device.type else x.to(ranks.device)
    return layout.joined(ranks.all_gather(layout.padded(sent))).to(x.device)
