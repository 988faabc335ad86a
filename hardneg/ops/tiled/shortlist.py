"""The k best keys of every anchor on a CPU: of later tiles only what beats the k-th best so far is looked at."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

import torch
from torch import Tensor

from hardneg.ops.tiled.admission import excluded_value
from hardneg.ops.tiled.top_k import first_k, group_maxima, row_top_k

if TYPE_CHECKING:
    from jaxtyping import Bool, Float, Int

__all__ = ["Shortlist", "TileKeys"]

GROUPS = (32, 16, 8)
GROUPS_PER_HIT = 8
"""A group is small enough where about so many of them are passed over for each that is looked into."""
FEW, MANY = 8, 2
"""One in so many groups at most is looked into before left-out pairs are marked, and afterwards."""
WAITING = 16

Listed = tuple[Tensor, Tensor, Tensor]
"""Anchor, place and key of some pairs of a tile, by anchor."""


class TileKeys(Protocol):
    """The keys of a tile, an anchor a row. Which pairs are left out is asked of the few that matter, or marked."""

    def raw(self) -> Float[Tensor, "a p"]:
        """The keys of all pairs."""

    def marked(self) -> Float[Tensor, "a p"]:
        """The same with the left-out pairs below half of ``-excluded_value``; may overwrite them."""

    def admits(self, anchors: Int[Tensor, "t"], places: Int[Tensor, "t"]) -> Bool[Tensor, "t"]:
        """Whether the listed pairs take part."""


class Shortlist:
    """The k best keys of n anchors, fed tile by tile in rising order of index.

    An anchor's floor is the k-th best key it has. Once that is high, hardly any group of a tile's keys has a
    maximum above it, and the members of these few groups are all that is compared, tested for admission, and kept.
    What was kept waits until there is enough of it to be ranked. Tiles with much to keep, as the first
    one, are ranked as a whole.
    """

    def __init__(self, n: int, k: int, dtype: torch.dtype) -> None:
        self.k, self.lowest = k, -excluded_value(dtype) / 2
        self.values = torch.full((n, k), self.lowest, dtype=dtype)
        self.indices = torch.full((n, k), -1)
        self.anchors = slice(0, 0)
        self.waiting: list[Listed] = []

    def chosen(self) -> Int[Tensor, "n k"]:
        """The indices found, the smallest first among equals; -1 where there are fewer than k."""
        self.rank_waiting()
        return self.indices

    def take(self, keys: TileKeys, anchors: slice, first: int) -> None:
        """Take in a tile of the given anchors whose others are numbered from ``first``."""
        if anchors != self.anchors:
            self.rank_waiting()
            self.anchors = anchors
        listed = self.above_floor(keys, first) if first else None
        if listed is None:
            self.rank_waiting()
            self.rank_tile(keys.marked(), first)
            return
        row, place, key = listed
        self.waiting.append((row, place + first, key))
        most = (anchors.stop - anchors.start) * max(self.k, WAITING) // 2
        if sum(len(row) for row, _, _ in self.waiting) > most:
            self.rank_waiting()

    def above_floor(self, keys: TileKeys, first: int) -> Listed | None:
        """The admitted pairs with keys above the floor of their anchors; None where these are many."""
        floor = self.values[self.anchors, -1].contiguous()
        seen = first + keys.raw().shape[1]
        size = next((s for s in GROUPS if self.k * s * GROUPS_PER_HIT <= seen), GROUPS[-1])
        listed = above(keys.raw(), floor, size, FEW)
        if listed is None:
            return above(keys.marked(), floor, size, MANY)
        row, place, key = listed
        kept = keys.admits(row, place).nonzero()[:, 0]
        return row[kept], place[kept], key[kept]

    def rank_waiting(self) -> None:
        """Rank what waits, put in order of index for each anchor."""
        if not self.waiting:
            return
        row, index, key = (torch.cat(each) for each in zip(*self.waiting, strict=True))
        self.waiting = []
        n = self.anchors.stop - self.anchors.start
        order = ((row << 32) | index).argsort()
        row, counts = row[order], torch.bincount(row, minlength=n)
        width = int(counts.amax())
        place = torch.arange(len(row)) - (counts.cumsum(0) - counts - torch.arange(n) * width)[row]
        values = key.new_full((n * width,), self.lowest)
        indices = index.new_full((n * width,), -1)
        values[place], indices[place] = key[order], index[order]
        self.merge(values.view(n, width), indices.view(n, width))

    def rank_tile(self, keys: Float[Tensor, "a p"], first: int) -> None:
        """Take in a whole tile, whose left-out pairs are marked."""
        values, places = top_of_tile(keys, self.k)
        taken = values > self.lowest
        if not bool(taken[:, -1:].all()):
            values = torch.where(taken, values, self.lowest)
            places = torch.where(taken, places, -1 - first)
        if not first:  # nothing is held yet
            found = values.shape[1]
            self.values[self.anchors, :found] = values
            self.indices[self.anchors, :found] = places
            return
        better = int((values > self.values[self.anchors, -1:]).sum(dim=1).amax())
        if better:
            self.merge(values[:, :better], places[:, :better] + first)

    def merge(self, values: Float[Tensor, "a w"], indices: Int[Tensor, "a w"]) -> None:
        """Keep the k best of the old and the new; the old stand first, so equals keep the smaller index."""
        values = torch.cat([self.values[self.anchors], values], 1)
        indices = torch.cat([self.indices[self.anchors], indices], 1)
        best, order = first_k(values, self.k)
        self.values[self.anchors] = best
        self.indices[self.anchors] = indices.gather(1, order)


def top_of_tile(keys: Float[Tensor, "a p"], k: int) -> tuple[Tensor, Tensor]:
    """The k best of every row; a NaN, which ``torch.topk`` ranks first, is none of them."""
    values, places = row_top_k(keys, k)
    if bool(values[:, :1].isnan().any()):
        return row_top_k(keys.nan_to_num(-excluded_value(keys.dtype), torch.inf, -torch.inf), k)
    return values, places


def above(
    keys: Float[Tensor, "a p"], floor: Float[Tensor, "a"], size: int, groups_per_hit: int
) -> Listed | None:
    """The keys above the floors of their rows, found by the maxima of groups; None where too many groups have one."""
    split = keys.shape[1] // size * size
    parts = [(keys[:, :split], size, 0), (keys[:, split:], 1, split)]
    found = []
    for part, members, first in parts:
        if not part.shape[1]:
            continue
        listed = above_by_groups(part, floor, members, groups_per_hit if members > 1 else 1)
        if listed is None:
            return None
        found.append((listed[0], listed[1] + first, listed[2]))
    row, place, key = (torch.cat(each) for each in zip(*found, strict=True))
    return row, place, key


def above_by_groups(
    keys: Float[Tensor, "a p"], floor: Float[Tensor, "a"], size: int, groups_per_hit: int
) -> Listed | None:
    """The same where the groups are full: their members stand apart, one in each of equal stretches of the row."""
    groups = keys.shape[1] // size
    maxima = group_maxima(keys, size)
    # a group with a NaN is looked into: its other members count
    hits = (maxima <= floor[:, None]).logical_not_().view(-1).nonzero()[:, 0]
    if len(hits) * groups_per_hit > maxima.numel():
        return None
    row = torch.div(hits, groups, rounding_mode="floor")
    group = hits - row * groups
    members = keys.unflatten(1, (size, groups))[row, :, group].contiguous()
    over = (members > floor[row, None]).view(-1).nonzero()[:, 0]
    which = torch.div(over, size, rounding_mode="floor")
    place = (over - which * size) * groups + group[which]
    return row[which], place, members.view(-1)[over]
