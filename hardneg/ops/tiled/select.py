"""Tiled ``select``: the k first admitted candidates of every row and column, in one pass over the tiles."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from hardneg.negatives.selection import (
    COLUMN_SALT,
    ROW_SALT,
    Selection,
    ranking_keys,
    with_fallback,
)
from hardneg.ops.comparison import Comparison
from hardneg.ops.grid import Tile, grid, long_tile
from hardneg.ops.requests import Search
from hardneg.ops.scores import Selected
from hardneg.ops.tiled.admission import Admission, excluded_value
from hardneg.ops.tiled.best import Best
from hardneg.ops.tiled.scores import TileScores, tile_scores

if TYPE_CHECKING:
    from jaxtyping import Float

__all__ = ["select"]

EASIEST = Selection("lowest", 1)
HARDEST = Selection("highest", 1)
FEW = 32
"""Up to so many places both sides are searched in one pass."""


class Side:
    """What one side, rows or columns, looks for, and what it has found so far."""

    def __init__(
        self,
        comparison: Comparison,
        tiles: TileScores,
        selection: Selection,
        floor: Tensor | None,
        ceiling: Tensor | None,
        seed: Tensor | None,
        of_rows: bool,
    ) -> None:
        self.comparison, self.tiles, self.selection = comparison, tiles, selection
        self.floor, self.ceiling, self.seed, self.of_rows = floor, ceiling, seed, of_rows
        anchors = comparison.queries if of_rows else comparison.candidates
        dtype, device = tiles.buffers.dtype, tiles.buffers.device
        self.best = Best(len(anchors), selection.k, dtype, device)

    @property
    def plain(self) -> bool:
        """Whether the scores themselves are the keys and all of them are in the window."""
        return self.selection.order == "highest" and self.floor is None and self.ceiling is None

    def keys(self, scores: Float[Tensor, "r c"], tile: Tile) -> Float[Tensor, "r c"]:
        """The keys of a tile in a buffer of their own, those outside the window marked."""
        keys = self.tiles.buffers.get("keys", tile)
        if self.selection.order == "lowest":
            torch.neg(scores, out=keys)
        elif self.selection.order == "highest":
            keys.copy_(scores)
        else:
            keys.copy_(self.random_keys(scores, tile))
            keys.clamp_(min=-excluded_value(keys.dtype))
        return self.bound(keys, scores, tile)

    def random_keys(self, scores: Float[Tensor, "r c"], tile: Tile) -> Float[Tensor, "r c"]:
        """Keys that depend on the pair's hash."""
        relation, device = self.comparison.relation, scores.device
        row = torch.arange(tile.rows.start, tile.rows.stop, device=device) + relation.row_offset
        column = torch.arange(tile.columns.start, tile.columns.stop, device=device)
        column = column + relation.column_offset
        similarity, seed = self.comparison.similarity, self.seed
        if self.of_rows:
            return ranking_keys(scores, self.selection, similarity, seed, row, column, ROW_SALT)
        by_column = ranking_keys(
            scores.T, self.selection, similarity, seed, column, row, COLUMN_SALT
        )
        return by_column.T

    def bound(self, keys: Tensor, scores: Tensor, tile: Tile) -> Float[Tensor, "r c"]:
        """Mark the keys whose scores are outside the window, in place."""
        outside = self.tiles.buffers.get("flags", tile)
        for limit, compare in ((self.floor, torch.le), (self.ceiling, torch.ge)):
            if limit is not None:
                limits = limit[tile.rows, None] if self.of_rows else limit[None, tile.columns]
                keys.add_(compare(scores, limits, out=outside), alpha=-excluded_value(keys.dtype))
        return keys

    def take(self, keys: Float[Tensor, "r c"], tile: Tile) -> None:
        """Take in the keys of a tile."""
        if self.of_rows:
            self.best.update_rows(keys, tile.rows, tile.columns.start)
        else:
            self.best.update_columns(keys, tile.columns, tile.rows.start)


def select(comparison: Comparison, search: Search, tile: tuple[int, int] | None = None) -> Selected:
    """See ``reference.select``."""
    width = search.selection.k - search.selection.skip
    none = torch.empty(0, width, dtype=torch.long, device=comparison.queries.device)
    found = {True: (none, none[:, :1]), False: (none, none[:, :1])}
    for together, size in passes(comparison, search, tile):
        tiles = tile_scores(comparison, size)
        admission = Admission(comparison.relation, search.among, tiles.buffers)
        sides = {of_rows: sides_of(comparison, tiles, search, of_rows) for of_rows in together}
        scan(tiles, admission, [side for both in sides.values() for side in both])
        for of_rows, mine in sides.items():
            found[of_rows] = settle(search.selection, search.hardest, mine)
    return Selected(found[True][0], found[False][0], found[True][1], found[False][1])


def passes(
    comparison: Comparison, search: Search, tile: tuple[int, int] | None
) -> list[tuple[list[bool], tuple[int, int] | None]]:
    """Which sides (True: rows) go over the tiles together, and the size of these tiles.

    Many of many are found fastest in long rows, or columns: merging what tiles found takes longer than
    finding it. So a side that searches alone has tiles of its own, and with many places both do.
    """
    wanted = [of_rows for of_rows, on in ((True, search.rows), (False, search.columns)) if on]
    n, m, k = len(comparison.queries), len(comparison.candidates), search.selection.k
    on_cpu = comparison.queries.device.type == "cpu"
    if tile is not None or not on_cpu or k == 1 or (len(wanted) == 2 and k <= FEW):
        return [(wanted, tile)] if wanted else []
    return [
        ([of_rows], long_tile(n, m, k) if of_rows else long_tile(m, n, k)[::-1])
        for of_rows in wanted
    ]


def sides_of(
    comparison: Comparison, tiles: TileScores, search: Search, of_rows: bool
) -> list[Side]:
    """What rows, or columns, look for: the selection, then its fallback and the hardest of all where asked for."""
    window, selection = search.window, search.selection
    floor = window.row_floor if of_rows else window.column_floor
    ceiling = window.row_ceiling if of_rows else window.column_ceiling
    mine = [Side(comparison, tiles, selection, floor, ceiling, search.seed, of_rows)]
    for more in further(selection, search.hardest):
        mine.append(Side(comparison, tiles, more, None, None, None, of_rows))
    return mine


def further(selection: Selection, hardest: bool) -> list[Selection]:
    """What is looked for beside the selection: its fallback, and the hardest of all."""
    fallback = {"easiest": [EASIEST], "hardest": [HARDEST], "none": []}[selection.fallback]
    return fallback + ([HARDEST] if hardest else [])


def settle(selection: Selection, hardest: bool, sides: list[Side]) -> tuple[Tensor, Tensor]:
    """The selection with its fallback, and the hardest of all (empty unless asked for)."""
    chosen = sides[0].best.indices[:, selection.skip :].contiguous()
    if selection.fallback != "none":
        chosen = with_fallback(chosen, sides[1].best.indices)
    top = sides[-1].best.indices
    return chosen, top if hardest else top[:0, :1]


def scan(tiles: TileScores, admission: Admission, sides: list[Side]) -> None:
    """One pass over the tiles; sides that need keys of their own go before the scores are overwritten."""
    if not sides:
        return
    n = len(sides[0].comparison.queries)
    m = len(sides[0].comparison.candidates)
    excluded = -excluded_value(tiles.buffers.dtype)
    for tile in grid(n, m, tiles.tile):
        if admission.empty(tile):
            continue
        scores = tiles.scores(tile)
        for side in sides:
            if not side.plain:
                side.take(admission.fill(side.keys(scores, tile), tile, excluded), tile)
        if any(side.plain for side in sides):
            admission.fill(scores, tile, excluded)
        for side in sides:
            if side.plain:
                side.take(scores, tile)
