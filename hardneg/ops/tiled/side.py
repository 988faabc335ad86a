"""What rows or columns look for in the tiles of a pass: their keys, and who takes part."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from hardneg.negatives.selection import COLUMN_SALT, ROW_SALT, Selection, ranking_keys
from hardneg.ops.comparison import Comparison, admitted_pairs
from hardneg.ops.grid import Tile
from hardneg.ops.requests import Search
from hardneg.ops.tiled.admission import Admission, excluded_value
from hardneg.ops.tiled.best import Best
from hardneg.ops.tiled.scores import tile_scores
from hardneg.ops.tiled.shortlist import Shortlist

if TYPE_CHECKING:
    from jaxtyping import Bool, Float, Int

__all__ = ["Pass", "Scored", "Side"]


class Pass:
    """One pass over the tiles for the rows of a comparison, its columns, or both.

    ``swapped`` says that rows are candidates.
    """

    def __init__(
        self,
        comparison: Comparison,
        search: Search,
        tile: tuple[int, int] | None,
        swapped: bool = False,
    ) -> None:
        self.comparison, self.search, self.swapped = comparison, search, swapped
        self.tiles = tile_scores(comparison, tile)
        self.admission = Admission(comparison.relation, search.among, self.tiles.buffers)

    def bounds(self, of_rows: bool) -> tuple[Tensor | None, Tensor | None]:
        """Floor and ceiling of the anchors."""
        window = self.search.window
        if of_rows:
            return window.row_floor, window.row_ceiling
        return window.column_floor, window.column_ceiling

    def salt(self, of_rows: bool) -> int:
        """What tells the random draws of queries and candidates apart."""
        return ROW_SALT if of_rows != self.swapped else COLUMN_SALT


class Scored:
    """The scores of a tile. Those of left-out pairs are marked once, when this is first asked for."""

    def __init__(self, admission: Admission, scores: Float[Tensor, "r c"], tile: Tile) -> None:
        self.admission, self.scores, self.tile = admission, scores, tile

    @cached_property
    def marked(self) -> Float[Tensor, "r c"]:
        """The scores, from now on with the marks."""
        return self.fill(self.scores)

    def fill(self, keys: Float[Tensor, "r c"]) -> Float[Tensor, "r c"]:
        """Mark the left-out pairs, in place."""
        return self.admission.fill(keys, self.tile, -excluded_value(keys.dtype))


class Side:
    """What one side, rows or columns, looks for, and what it has found so far."""

    def __init__(self, where: Pass, selection: Selection, bounded: bool, of_rows: bool) -> None:
        self.where, self.selection, self.of_rows = where, selection, of_rows
        self.floor, self.ceiling = where.bounds(of_rows) if bounded else (None, None)
        comparison, buffers = where.comparison, where.tiles.buffers
        n = len(comparison.queries if of_rows else comparison.candidates)
        self.best: Best | Shortlist
        if selection.k > 1 and buffers.device.type == "cpu":
            self.best = Shortlist(n, selection.k, buffers.dtype)
        else:
            self.best = Best(n, selection.k, buffers.dtype, buffers.device)

    @property
    def plain(self) -> bool:
        """Whether the scores themselves are the keys and all of them are in the window."""
        return self.selection.order == "highest" and self.floor is None and self.ceiling is None

    def keys(self, scores: Float[Tensor, "r c"], tile: Tile) -> Float[Tensor, "r c"]:
        """The keys of a tile: the scores themselves, or a buffer of their own."""
        if self.selection.order == "highest":
            return scores
        keys = self.where.tiles.buffers.get("keys", tile)
        if self.selection.order == "lowest":
            return torch.neg(scores, out=keys)
        keys.copy_(self.other_keys(scores, tile))
        return keys.clamp_(min=-excluded_value(keys.dtype))

    def other_keys(self, scores: Float[Tensor, "r c"], tile: Tile) -> Float[Tensor, "r c"]:
        """Keys that depend on the pair's hash, or a function of the scores."""
        comparison, device = self.where.comparison, scores.device
        relation = comparison.relation
        row = torch.arange(tile.rows.start, tile.rows.stop, device=device) + relation.row_offset
        column = torch.arange(tile.columns.start, tile.columns.stop, device=device)
        column = column + relation.column_offset
        given = self.selection, comparison.similarity, self.where.search.seed
        salt = self.where.salt(self.of_rows)
        if self.of_rows:
            return ranking_keys(scores, *given, row, column, salt)
        return ranking_keys(scores.T, *given, column, row, salt).T

    def marked(self, keys: Float[Tensor, "r c"], scored: Scored) -> Float[Tensor, "r c"]:
        """The keys with those that take no part marked; scores are marked in place only if plain."""
        if self.plain:
            return scored.marked
        tile, buffers = scored.tile, self.where.tiles.buffers
        if keys is scored.scores:
            keys = buffers.get("keys", tile).copy_(keys)
        outside = buffers.get("flags", tile)
        for limit, compare in ((self.floor, torch.le), (self.ceiling, torch.ge)):
            if limit is not None:
                limits = limit[tile.rows, None] if self.of_rows else limit[None, tile.columns]
                flags = compare(scored.scores, limits, out=outside)
                keys.add_(flags, alpha=-excluded_value(keys.dtype))
        return scored.fill(keys)

    def take(self, scored: Scored) -> None:
        """Take in a tile."""
        tile, keys = scored.tile, self.keys(scored.scores, scored.tile)
        if isinstance(self.best, Shortlist):
            anchors, first = tile.rows, tile.columns.start
            if not self.of_rows:
                anchors, first = tile.columns, tile.rows.start
            self.best.take(SideKeys(self, keys, scored), anchors, first)
        elif self.of_rows:
            self.best.update_rows(self.marked(keys, scored), tile.rows, tile.columns.start)
        else:
            self.best.update_columns(self.marked(keys, scored), tile.columns, tile.rows.start)


@dataclass(frozen=True, eq=False)
class SideKeys:
    """The keys of a tile as a side sees them, an anchor a row; see ``TileKeys``."""

    side: Side
    keys: Float[Tensor, "r c"]
    scored: Scored

    def turned(self, keys: Float[Tensor, "r c"]) -> Float[Tensor, "a p"]:
        """An anchor a row."""
        return keys if self.side.of_rows else keys.T

    def raw(self) -> Float[Tensor, "a p"]:
        """See ``TileKeys``."""
        return self.turned(self.keys)

    def marked(self) -> Float[Tensor, "a p"]:
        """See ``TileKeys``."""
        return self.turned(self.side.marked(self.keys, self.scored))

    def admits(self, anchors: Int[Tensor, "t"], places: Int[Tensor, "t"]) -> Bool[Tensor, "t"]:
        """See ``TileKeys``."""
        side, tile = self.side, self.scored.tile
        rows, columns = (anchors, places) if side.of_rows else (places, anchors)
        search, relation = side.where.search, side.where.comparison.relation
        of_tile = rows + tile.rows.start, columns + tile.columns.start
        taken = admitted_pairs(relation, search.among, *of_tile)
        score, anchor = self.scored.scores[rows, columns], of_tile[not side.of_rows]
        if side.floor is not None:
            taken &= score > side.floor[anchor]
        if side.ceiling is not None:
            taken &= score < side.ceiling[anchor]
        return taken
