"""The k best keys of every row or column seen so far, the smallest index first among equals."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from hardneg.ops.tiled.admission import excluded_value

if TYPE_CHECKING:
    from jaxtyping import Float, Int

__all__ = ["Best"]

GROUP = 32
FEW = 1 << 16
LOWEST_INDEX = 0x7FFFFFFF


def row_argmax(keys: Float[Tensor, "r c"]) -> tuple[Float[Tensor, "r"], Int[Tensor, "r"]]:
    """Maximum and first position of it in every row: groups first, then inside the winning group.

    On a CPU that is a third of the time of ``max(dim=1)``, which finds the position in one thread's
    scalar loop.
    """
    groups = keys.shape[1] // GROUP
    if groups < 4 or keys.numel() < FEW:
        value, index = keys.max(dim=1)
        return value, index
    split = groups * GROUP
    grouped = keys[:, :split].unflatten(1, (groups, GROUP))
    value, group = grouped.amax(dim=2).max(dim=1)
    rows = torch.arange(keys.shape[0], device=keys.device)
    index = group * GROUP + grouped[rows, group].argmax(dim=1)
    if split < keys.shape[1]:
        rest, where = keys[:, split:].max(dim=1)
        index = torch.where(rest > value, where + split, index)
        value = torch.maximum(rest, value)
    return value, index


def column_argmax(keys: Float[Tensor, "r c"]) -> tuple[Float[Tensor, "c"], Int[Tensor, "c"]]:
    """The same of every column; a tenth of the time of ``max(dim=0)`` on a CPU."""
    groups = keys.shape[0] // GROUP
    if groups < 4 or keys.numel() < FEW:
        value, index = keys.T.contiguous().max(dim=1)
        return value, index
    split = groups * GROUP
    grouped = keys[:split].unflatten(0, (groups, GROUP))
    value, group = grouped.amax(dim=1).max(dim=0)
    columns = torch.arange(keys.shape[1], device=keys.device)
    index = group * GROUP + grouped[group, :, columns].argmax(dim=1)
    if split < keys.shape[0]:
        rest, where = keys[split:].max(dim=0)
        index = torch.where(rest > value, where + split, index)
        value = torch.maximum(rest, value)
    return value, index


def pack(values: Float[Tensor, "..."], indices: Int[Tensor, "..."]) -> Int[Tensor, "..."]:
    """float32 value and index in one integer that sorts by value, then by smallest index."""
    bits = (values + 0.0).view(torch.int32)
    ordered = bits ^ ((bits >> 31) & 0x7FFFFFFF)
    return (ordered.long() << 32) | (LOWEST_INDEX - indices)


def unpack(packed: Int[Tensor, "..."]) -> tuple[Float[Tensor, "..."], Int[Tensor, "..."]]:
    """Value and index of a packed key."""
    ordered = (packed >> 32).int()
    values = (ordered ^ ((ordered >> 31) & 0x7FFFFFFF)).view(torch.float32)
    return values, LOWEST_INDEX - (packed & LOWEST_INDEX)


def first_k(
    values: Float[Tensor, "r c"], indices: Int[Tensor, "r c"], k: int
) -> tuple[Float[Tensor, "r k"], Int[Tensor, "r k"]]:
    """The k highest values of each row with their indices, smallest index first among equals.

    ``torch.topk`` promises no order among equals, hence packed keys; float64, which does not fit
    them, takes a stable sort and needs equal values to stand in rising order of index.
    """
    k = min(k, values.shape[1])
    if values.dtype == torch.float32:
        return unpack(pack(values, indices).topk(k, dim=1).values)
    values, order = values.sort(dim=1, descending=True, stable=True)
    return values[:, :k], indices.expand(len(values), -1).gather(1, order[:, :k])


def row_top_k(
    keys: Float[Tensor, "r c"], k: int
) -> tuple[Float[Tensor, "r k"], Int[Tensor, "r k"]]:
    """The k best of every row. They lie in the k groups with the best maxima, so few are sorted."""
    rows, columns = keys.shape
    groups = columns // GROUP
    position = torch.arange(columns, device=keys.device)
    if keys.dtype != torch.float32 or k * 4 > groups:
        return first_k(keys, position[None], k)
    split = groups * GROUP
    grouped = keys[:, :split].unflatten(1, (groups, GROUP))
    _, best = first_k(grouped.amax(dim=2), position[None, :groups], k)
    inside = grouped.gather(1, best[:, :, None].expand(-1, -1, GROUP)).flatten(1)
    where = (best[:, :, None] * GROUP + position[:GROUP]).flatten(1)
    rest = position[split:].expand(rows, -1)
    return first_k(torch.cat([inside, keys[:, split:]], 1), torch.cat([where, rest], 1), k)


def column_top_k(
    keys: Float[Tensor, "r c"], k: int
) -> tuple[Float[Tensor, "c k"], Int[Tensor, "c k"]]:
    """The k best of every column: the same, with only the winning groups transposed."""
    rows, columns = keys.shape
    size = GROUP // 4
    groups = rows // size
    position = torch.arange(rows, device=keys.device)
    if keys.dtype != torch.float32 or k * 4 > groups:
        return first_k(keys.T.contiguous(), position[None], k)
    split = groups * size
    grouped = keys[:split].unflatten(0, (groups, size))
    _, best = first_k(grouped.amax(dim=1).T.contiguous(), position[None, :groups], k)
    inside = grouped.gather(0, best.T[:, None, :].expand(-1, size, -1)).flatten(0, 1).T
    where = (best[:, :, None] * size + position[:size]).flatten(1)
    rest = position[split:].expand(columns, -1)
    values = torch.cat([inside, keys[split:].T], 1)
    return first_k(values, torch.cat([where, rest], 1), k)


class Best:
    """The k best keys of n anchors, fed tile by tile in rising order of index."""

    def __init__(self, n: int, k: int, dtype: torch.dtype, device: torch.device) -> None:
        lowest = -excluded_value(dtype) / 2
        self.k = k
        self.values = torch.full((n, k), lowest, dtype=dtype, device=device)
        self.indices = torch.full((n, k), -1, dtype=torch.long, device=device)

    def update_rows(self, keys: Float[Tensor, "r c"], rows: slice, first: int) -> None:
        """Take in a tile whose rows are the anchors ``rows`` and whose columns start at ``first``."""
        if self.k == 1:
            self.improve(*row_argmax(keys), rows, first)
        else:
            self.merge(*row_top_k(keys, self.k), rows, first)

    def update_columns(self, keys: Float[Tensor, "r c"], columns: slice, first: int) -> None:
        """Take in a tile whose columns are the anchors ``columns`` and whose rows start at ``first``."""
        if self.k == 1:
            self.improve(*column_argmax(keys), columns, first)
        else:
            self.merge(*column_top_k(keys, self.k), columns, first)

    def improve(self, value: Tensor, index: Tensor, anchors: slice, first: int) -> None:
        """k = 1: replace what is strictly exceeded; equals keep the earlier, smaller index."""
        values, indices = self.values[anchors, 0], self.indices[anchors, 0]
        better = value > values
        values.copy_(torch.where(better, value, values))
        indices.copy_(torch.where(better, index + first, indices))

    def merge(self, values: Tensor, indices: Tensor, anchors: slice, first: int) -> None:
        """Keep the k best of the old and the new; the old stand first, so equals keep the smaller index."""
        lowest = -excluded_value(values.dtype) / 2
        taken = values > lowest
        both = torch.cat([self.values[anchors], torch.where(taken, values, lowest)], 1)
        which = torch.cat([self.indices[anchors], torch.where(taken, indices + first, -1)], 1)
        held, order = both.sort(dim=1, descending=True, stable=True)
        self.values[anchors] = held[:, : self.k]
        self.indices[anchors] = which.gather(1, order[:, : self.k])
