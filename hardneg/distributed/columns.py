"""Column results of all rows from those of each rank's rows, by collectives of small vectors."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from hardneg.distributed.autograd import reduce_from_ranks
from hardneg.distributed.collectives import Ranks
from hardneg.distributed.layout import Layout

if TYPE_CHECKING:
    from jaxtyping import Float, Int

__all__ = ["first_k", "merge_columns", "total_logsumexp"]


def first_k(
    keys: Float[Tensor, "m c"], indices: Int[Tensor, "m c"], k: int
) -> tuple[Float[Tensor, "m k"], Int[Tensor, "m k"]]:
    """The k highest keys of each row, the smallest index first among equals; -1 indices come last.

    The indices that are not -1 must rise among equal keys.
    """
    keys = torch.where(indices >= 0, keys, -torch.inf)
    absent = (indices < 0).to(torch.int8).sort(dim=1, stable=True).indices
    keys, indices = keys.gather(1, absent), indices.gather(1, absent)
    held, order = keys.sort(dim=1, descending=True, stable=True)
    return held[:, :k], indices.gather(1, order[:, :k])


def merge_columns(
    keys: Float[Tensor, "m k"], indices: Int[Tensor, "m k"], ranks: Ranks
) -> Int[Tensor, "m k"]:
    """The k highest keys of every column, from the k that each rank found among its own rows.

    A column is settled by one rank: every rank sends it the keys, it sends back what it chose.
    ``indices`` are global row numbers, which rise from rank to rank, so that the lowest wins ties.
    """
    (columns, k), size = keys.shape, ranks.size
    share = -(-columns // size)
    layout = Layout(*(tuple(max(0, min(share, columns - r * share)) for r in range(size)),) * 2)
    theirs = ranks.all_to_all(layout.split_rows(keys)).transpose(0, 1).flatten(1)
    places = layout.split_rows(indices + 1)  # the padding then means nobody
    which = ranks.all_to_all(places).transpose(0, 1).flatten(1) - 1
    _, chosen = first_k(theirs, which, k)
    return layout.joined(ranks.all_gather(chosen))


def total_logsumexp(parts: Float[Tensor, "m"], ranks: Ranks) -> Float[Tensor, "m"]:
    """The log-sum-exp over all rows from that over each rank's, differentiable; -inf where all are."""
    largest = ranks.max(parts)
    largest = torch.where(largest == -torch.inf, 0.0, largest)
    sums = reduce_from_ranks((parts - largest).exp(), ranks)
    some = sums > 0
    return torch.where(some, torch.where(some, sums, 1.0).log() + largest, -torch.inf)
