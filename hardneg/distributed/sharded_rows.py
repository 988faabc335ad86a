"""A matrix of which every rank holds some rows, in the shape of the whole: what a loss sees of the global batch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from hardneg.distributed.autograd import gather_from_ranks, turned_rows
from hardneg.distributed.collectives import Ranks
from hardneg.distributed.layout import Layout
from hardneg.similarities import upcast

__all__ = ["ShardedRows"]

aten = torch.ops.aten

ROW_WISE = {
    aten.abs.default,
    aten.detach.default,
    aten.div.Tensor,
    aten.pow.Tensor_Scalar,
    aten._to_copy.default,
}
CREATING = {aten.new_empty.default, aten.new_full.default, aten.new_zeros.default}


class ShardedRows(Tensor):
    """Shape, type and device of the global rows; the memory of this rank's.

    A loss asks embeddings for little besides their scores, which the backend computes from
    ``local``. What it asks for is answered here: row-wise arithmetic stays sharded, reductions over
    the rows are collective and give the same tensor on every rank, anything else raises.

    Attributes:
        local: this rank's rows; of embeddings, with their history.
        rows: which rows every rank holds.
        turned: whether the rows are the second dimension (of a transposed mask).
        differentiable: whether gradients were wanted when it was made, whatever mode is on later.
    """

    local: Tensor
    rows: Layout
    ranks: Ranks
    turned: bool
    differentiable: bool
    collected: Tensor | None

    @staticmethod
    def __new__(cls, local: Tensor, layout: Layout, ranks: Ranks, turned: bool = False) -> Any:
        """A tensor without memory of its own."""
        shape = (layout.total, *local.shape[1:])
        self = Tensor._make_wrapper_subclass(
            cls, shape[::-1] if turned else shape, dtype=local.dtype, device=local.device
        )
        self.local, self.rows, self.ranks, self.turned = local, layout, ranks, turned
        self.differentiable, self.collected = torch.is_grad_enabled(), None
        return self

    @classmethod
    def __torch_dispatch__(  # type: ignore[override]
        cls, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        """What losses ask for, and nothing else."""
        x, rest, named = args[0], args[1:], kwargs or {}
        if func in CREATING:
            return func(x.local, *rest, **named)
        if func in ROW_WISE:
            return ShardedRows(func(x.local, *rest, **named), x.rows, x.ranks, x.turned)
        if func in COLLECTIVE:
            return COLLECTIVE[func](x, *rest, **named)
        # in inference mode operators arrive before they are taken apart: a square is a power, T a permutation
        parts = func.decompose(*args, **named)
        if parts is not NotImplemented:
            return parts
        raise NotImplementedError(
            f"{func} of rows that are spread over ranks: a loss reads them through its scores only"
        )

    def __repr__(self, *, tensor_contents: Any = None) -> str:  # type: ignore[override]
        return f"ShardedRows({tuple(self.shape)}, {self.local.shape[0]} of them here)"

    def everywhere(self) -> Tensor:
        """The rows of all ranks, gather_from_ranks once; with history where gradients are wanted."""
        if self.collected is None:
            with torch.set_grad_enabled(self.differentiable):
                self.collected = gather_from_ranks(self.local, self.rows, self.ranks)
        return self.collected

    def own_rows(self, rows: Layout) -> Tensor:
        """Of a mask: the rows that this rank holds by ``rows``, against all columns.

        Of a transposed one they come from all ranks: a bit for each own row and column is received.
        """
        if not self.turned:
            return self.local
        if self.collected is None:
            bits = self.local.to(torch.uint8)
            self.collected = turned_rows(bits, self.rows, rows, self.ranks).bool()
        return self.collected


def extremes(x: ShardedRows) -> tuple[Tensor, Tensor]:
    """Smallest and largest entry; both NaN where any entry is (a maximum over ranks would hide it)."""
    local = upcast(x.local)
    if local.numel():
        both = torch.stack([-local.min(), local.max()])
    else:
        both = local.new_full((2,), -torch.inf)
    undefined = both.isnan()
    found = x.ranks.max(torch.cat([both.masked_fill(undefined, -torch.inf), undefined.to(both)]))
    both = torch.where(found[2:] > 0, torch.nan, found[:2])
    return -both[0], both[1]


def largest(x: ShardedRows) -> Tensor:
    """Largest entry."""
    return extremes(x)[1].to(x.dtype)


def mean(x: ShardedRows) -> Tensor:
    """Mean over all entries."""
    return x.ranks.sum(x.local.sum()) / x.numel()


def variance(x: ShardedRows, dim: Sequence[int], *, correction: int) -> Tensor:
    """Variance of every coordinate over the rows, in two steps as for rows in one place."""
    assert list(dim) == [0]
    if x.turned:
        beyond = x.local - x.local.mean(1, keepdim=True)
        return whole_vector(x, beyond.square().sum(1) / (x.shape[0] - correction))
    centre = x.ranks.sum(x.local.sum(0)) / x.shape[0]
    return x.ranks.sum((x.local - centre).square().sum(0)) / (x.shape[0] - correction)


def whole_vector(x: ShardedRows, own: Tensor) -> Tensor:
    """One number for each of the global rows, from those of the own ones."""
    return x.rows.joined(x.ranks.all_gather(x.rows.padded(own)))


def row_sums(x: ShardedRows, dim: Sequence[int]) -> Tensor:
    """Sums of the rows; of a transposed matrix whole on every rank."""
    assert list(dim) == [1]
    if x.turned:
        return x.ranks.sum(x.local.sum(0))
    result: ShardedRows = ShardedRows(x.local.sum(1), x.rows, x.ranks)
    return result


def transpose_rows(x: ShardedRows, dims: Sequence[int]) -> ShardedRows:
    """The transposed matrix, this rank's rows being columns now."""
    assert list(dims) == [1, 0]
    found: ShardedRows = ShardedRows(x.local, x.rows, x.ranks, not x.turned)
    return found


def diagonal(x: ShardedRows) -> Tensor:
    """The diagonal of a mask, whole on every rank."""
    start = x.rows.start(x.ranks.rank)
    own = x.local.diagonal(start) if start < x.local.shape[1] else x.local[:0, 0]
    whole = torch.zeros(min(x.shape), dtype=torch.int32, device=x.device)
    whole[start : start + len(own)] = own.int()
    return x.ranks.sum(whole) > 0


COLLECTIVE: dict[Any, Callable[..., Any]] = {
    aten.aminmax.default: extremes,
    aten.amax.default: largest,
    aten.mean.default: mean,
    aten.var.correction: variance,
    aten.sum.dim_IntList: row_sums,
    aten.permute.default: transpose_rows,
    aten.diagonal.default: diagonal,
}
