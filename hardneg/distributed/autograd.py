"""Where autograd crosses from one rank to all of them, and back.

A vector that every rank holds whole (a threshold, a temperature, a result) has its whole gradient on
every rank. Embeddings are held by one rank, which gets their gradient times the number of ranks, as
DistributedDataParallel divides by it.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from hardneg.distributed.collectives import Ranks
from hardneg.distributed.layout import Layout
from hardneg.similarities import upcast

__all__ = [
    "average_gradient",
    "copy_to_ranks",
    "exchange_sides",
    "gather_from_ranks",
    "reduce_from_ranks",
    "scale_gradient",
    "turned_rows",
]


class CopyToRanks(torch.autograd.Function):
    """The identity; every rank adds its share to the gradient."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, ranks: Ranks) -> Tensor:
        """A view, so that the input stays apart from it."""
        ctx.ranks = ranks
        return x.view_as(x)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor, None]:
        """The sum over ranks."""
        return ctx.ranks.sum(upstream), None


class ReduceFromRanks(torch.autograd.Function):
    """The sum over ranks of a partial result; its gradient is that of every shard."""

    @staticmethod
    def forward(ctx: Any, shard: Tensor, ranks: Ranks) -> Tensor:
        """All-reduce."""
        return ranks.sum(shard)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor, None]:
        """The same on every rank, and so is the upstream gradient."""
        return upstream, None


class ScaleGradient(torch.autograd.Function):
    """Embeddings of this rank: the gradient times the number of ranks."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, ranks: Ranks) -> Tensor:
        """A view."""
        ctx.size = ranks.size
        return x.view_as(x)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor, None]:
        """What an average over ranks takes away again."""
        return upstream * ctx.size, None


class GatherFromRanks(torch.autograd.Function):
    """The rows of all ranks; in backward the shares of all ranks are summed by the rows' owner."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, layout: Layout, ranks: Ranks) -> Tensor:
        """All-gather, padded where ranks hold different numbers."""
        ctx.layout, ctx.ranks, ctx.count = layout, ranks, x.shape[0]
        return layout.joined(ranks.all_gather(layout.padded(x)))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor, None, None]:
        """Reduce-scatter, in the precision of the scores."""
        parts = ctx.layout.split_rows(upcast(upstream))
        return ctx.ranks.reduce_scatter(parts)[: ctx.count].to(upstream.dtype), None, None


class AverageGradient(torch.autograd.Function):
    """The loss itself: what the ranks ask of its copies is averaged, so that all go back with the same."""

    @staticmethod
    def forward(ctx: Any, value: Tensor, ranks: Ranks) -> Tensor:
        """A copy: a view as a model's output makes ``fully_shard`` warn of operations in place."""
        ctx.ranks = ranks
        return value.clone()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor, None]:
        """The mean over ranks."""
        return ctx.ranks.sum(upstream) / ctx.ranks.size, None


class ExchangeSides(torch.autograd.Function):
    """The rows of a matrix become columns: every rank sends the others their part of its own."""

    @staticmethod
    def forward(ctx: Any, local: Tensor, held: Layout, rows: Layout, ranks: Ranks) -> Tensor:
        """All-to-all, padded."""
        ctx.held, ctx.rows, ctx.ranks = held, rows, ranks
        return turned_rows(local, held, rows, ranks)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor, None, None, None]:
        """The same the other way."""
        return turned_rows(upstream, ctx.rows, ctx.held, ctx.ranks), None, None, None


def turned_rows(local: Tensor, held: Layout, rows: Layout, ranks: Ranks) -> Tensor:
    """This rank's rows of the transposed matrix, by ``rows``, from its rows of the matrix, by ``held``."""
    parts = rows.split_rows(local.T).transpose(1, 2)
    missing = held.longest - parts.shape[1]
    parts = torch.nn.functional.pad(parts, (0, 0, 0, missing))
    whole = held.joined(ranks.all_to_all(parts))
    return whole[:, : rows.lengths[ranks.rank]].T


def exchange_sides(local: Tensor, held: Layout, rows: Layout, ranks: Ranks) -> Any:
    """The same, differentiable."""
    return ExchangeSides.apply(local, held, rows, ranks)


def copy_to_ranks(x: Tensor | None, ranks: Ranks) -> Any:
    """A vector that every rank holds whole, before each rank computes its shard with it."""
    return None if x is None else CopyToRanks.apply(x, ranks)


def reduce_from_ranks(shard: Tensor, ranks: Ranks) -> Any:
    """The sum over ranks of their parts."""
    return ReduceFromRanks.apply(shard, ranks)


def scale_gradient(x: Tensor, ranks: Ranks) -> Any:
    """Embeddings that this rank holds."""
    return ScaleGradient.apply(x, ranks)


def gather_from_ranks(x: Tensor, layout: Layout, ranks: Ranks) -> Any:
    """Embeddings of all ranks, from those that each holds."""
    return GatherFromRanks.apply(x, layout, ranks)


def average_gradient(value: Tensor, ranks: Ranks) -> Any:
    """A result that the caller may differentiate on every rank."""
    return AverageGradient.apply(value, ranks)
