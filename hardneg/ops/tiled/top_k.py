"""The k highest keys of every row of a tile, the smallest index first among equals."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from hardneg.ops.tiled.admission import excluded_value

if TYPE_CHECKING:
    from jaxtyping import Bool, Float, Int

__all__ = ["first_k", "group_maxima", "row_top_k"]

GROUPS = (32, 16, 8)
LOWEST_INDEX = 0x7FFFFFFF
EXCHANGES = 6
PARTIAL = 64

TopK = tuple[Tensor, Tensor]
"""Values, highest first, and their positions."""


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


def first_k(values: Float[Tensor, "r c"], k: int) -> TopK:
    """The k highest values of each row with their positions, the smallest position first among equals.

    ``torch.topk`` promises no order among equals. On a CPU it is asked all the same, and rows with equal
    values are searched again; elsewhere, where asking for them would synchronise, every row is.
    """
    k = min(k, values.shape[1])
    if values.device.type != "cpu" or k == values.shape[1]:
        return exact_first_k(values, k)
    found, position, equal = with_equals(values, k)
    rows, place = equal.nonzero().unbind(1)
    if len(rows):
        # the last of k + 1 equals the one before it: others that equal it may have been passed over
        across = equal[:, -1] & (found[:, -1] > -excluded_value(values.dtype) / 2)
        again = across | unordered_top_k(position, rows, place, k)
        tied = again.nonzero()[:, 0]
        found[tied], position[tied] = exact_first_k(values[tied], k)
    return found, position


def with_equals(
    values: Float[Tensor, "r c"], k: int
) -> tuple[Float[Tensor, "r k"], Int[Tensor, "r k"], Bool[Tensor, "r k"]]:
    """``torch.topk`` on a CPU, and whether each value equals the next one, the last one any that was left out.

    One more value tells. But up to a 64th of a row ``torch.topk`` takes half the time, so at that edge the
    values that are as high as the last one are counted instead.
    """
    if k * PARTIAL <= values.shape[1] < (k + 1) * PARTIAL:
        found, position = values.topk(k, dim=1)
        as_high = torch.ge(values, found[:, -1:], out=torch.empty_like(values)).sum(1)
        equal = torch.cat([found[:, 1:] == found[:, :-1], (as_high > k)[:, None]], 1)
        return found, position, equal
    found, position = values.topk(k + 1, dim=1)
    return found[:, :k], position[:, :k], found[:, 1:] == found[:, :-1]


def unordered_top_k(
    position: Int[Tensor, "r k"], rows: Int[Tensor, "t"], place: Int[Tensor, "t"], k: int
) -> Bool[Tensor, "r"]:
    """Exchange positions, in place, until they rise among equals; which rows have too many equals for that.

    The listed places are those whose value equals the next one.
    """
    rows, place = rows[place < k - 1], place[place < k - 1]
    halves = [(rows[place % 2 == parity], place[place % 2 == parity]) for parity in (0, 1)]
    wrong = torch.zeros(len(position), dtype=torch.bool)
    for _ in range(EXCHANGES):
        wrong.zero_()
        for row, left in halves:
            one, other = position[row, left], position[row, left + 1]
            wrong[row[one > other]] = True
            position[row, left], position[row, left + 1] = one.minimum(other), one.maximum(other)
        if not bool(wrong.any()):
            break
    return wrong


def exact_first_k(values: Float[Tensor, "r c"], k: int) -> TopK:
    """The same of rows with equal values: by packed keys, or, of float64, which does not fit them, a stable sort."""
    if values.dtype == torch.float32 and k < values.shape[1]:
        position = torch.arange(values.shape[1], device=values.device)
        return unpack(pack(values, position[None]).topk(k, dim=1).values)
    values, order = values.sort(dim=1, descending=True, stable=True)
    return values[:, :k], order[:, :k]


def group_size(length: int, k: int) -> int | None:
    """How many keys to take the maximum of before looking closer; None where that saves nothing."""
    well = next((size for size in GROUPS if k * 8 <= length // size), None)
    return GROUPS[-1] if well is None and k * 4 <= length // GROUPS[-1] else well


def row_top_k(keys: Float[Tensor, "r c"], k: int) -> TopK:
    """The k best of every row. They lie in the k groups with the best maxima, so few keys are ranked."""
    size = group_size(keys.shape[1], k)
    if size is None:
        return first_k(keys.contiguous(), k)
    if keys.device.type != "cpu":
        return neighbours_top_k(keys, k, size)
    groups = keys.shape[1] // size
    split = groups * size
    best = best_groups(group_maxima(keys[:, :split], size), k)
    if best is None:
        return first_k(keys.contiguous(), k)
    inside = group_members(keys[:, :split], best, size)
    return among(inside, keys[:, split:], best, (groups, size), k)


def group_maxima(keys: Float[Tensor, "r c"], size: int) -> Float[Tensor, "r g"]:
    """Maxima of groups whose members stand apart, one in each of ``size`` equal stretches of the row.

    A CPU takes them in a third of the time of those of neighbours; of a transposed matrix, a hundredth
    of the time where it is reduced as it lies in memory.
    """
    groups = keys.shape[1] // size
    if keys.stride(1) != 1:
        by_group: Tensor = keys.T.unflatten(0, (size, groups))
        return by_group.amax(0).T.contiguous()
    by_group = keys.unflatten(1, (size, groups))
    return by_group.amax(1)


def group_members(
    keys: Float[Tensor, "r c"], best: Int[Tensor, "r k"], size: int
) -> Float[Tensor, "r s"]:
    """The members of some groups of every row, stretch by stretch; a transposed matrix is read as it lies in memory."""
    groups = keys.shape[1] // size
    if keys.stride(1) != 1:
        by_group: Tensor = keys.T.unflatten(0, (size, groups))
        return by_group.gather(1, best.T[None].expand(size, -1, -1)).flatten(0, 1).T
    by_group = keys.unflatten(1, (size, groups))
    return by_group.gather(2, best[:, None].expand(-1, size, -1)).flatten(1)


def best_groups(maxima: Float[Tensor, "r g"], k: int) -> Int[Tensor, "r k"] | None:
    """The groups that hold the k best, in rising order; None where equal maxima leave it open."""
    found, best = maxima.topk(k + 1, dim=1)
    last = found[:, k - 1]
    if bool(((found[:, k] == last) & (last > -excluded_value(maxima.dtype) / 2)).any()):
        return None
    return best[:, :k].sort(dim=1).values


def among(
    inside: Float[Tensor, "r s"],
    rest: Float[Tensor, "r t"],
    best: Int[Tensor, "r k"],
    groups: tuple[int, int],
    k: int,
) -> TopK:
    """The k best of the members of the best groups, stretch by stretch, and of the rest, by their places in the tile.

    ``groups`` are how many there are, and how many members each has.
    """
    held = inside.shape[1]
    keys = torch.cat([inside, rest], 1) if rest.shape[1] else inside
    values, position = first_k(keys, k)
    stretch = torch.div(position, k, rounding_mode="floor")
    places = stretch * groups[0] + best.gather(1, position % k)
    return values, torch.where(position < held, places, position - held + groups[0] * groups[1])


def neighbours_top_k(keys: Float[Tensor, "r c"], k: int, size: int) -> TopK:
    """The same off a CPU, where nothing is asked: groups are neighbours, so the first of equal groups is the one."""
    groups = keys.shape[1] // size
    split = groups * size
    grouped = keys[:, :split].unflatten(1, (groups, size))
    best = first_k(grouped.amax(dim=2), k)[1].sort(dim=1).values
    inside = grouped.gather(1, best[:, :, None].expand(-1, -1, size)).flatten(1)
    values, position = first_k(torch.cat([inside, keys[:, split:]], 1), k)
    held = k * size
    group = best.gather(1, torch.div(position, size, rounding_mode="floor").clamp(max=k - 1))
    places = group * size + position % size
    return values, torch.where(position < held, places, position - held + split)
