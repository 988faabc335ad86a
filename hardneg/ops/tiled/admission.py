"""Leaving out, tile by tile, the pairs that take no part."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from hardneg.ops.comparison import Among, Relation
from hardneg.ops.geometry import unit_rows
from hardneg.ops.grid import Buffers, Tile, chunks
from hardneg.ops.guide import Guide
from hardneg.similarities import upcast

__all__ = ["Admission", "excluded_value"]

GUIDED = 1 << 18
"""How many scores of a guide a CPU holds at a time: they are looked at once."""


def excluded_value(dtype: torch.dtype) -> float:
    """What marks a left-out score: added to a score of ordinary size it gives the largest finite number.

    Everything beyond half of it counts as left out, so ordinary scores stay below 1.7e38 in float32.
    """
    return torch.finfo(dtype).max


def guide_units(guide: Guide, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """The unit rows of a guide, in the type of the scores."""
    assert guide.rows is not None
    assert guide.columns is not None
    q, c = (unit_rows(upcast(x))[0].to(dtype) for x in (guide.rows, guide.columns))
    return q, c


class Admission:
    """Which pairs of each tile take part; the same rule as ``description.admitted``.

    On a CPU, ids are replaced by small float codes, whose comparison is several times faster, and a
    tile in which no ids meet costs nothing.
    """

    def __init__(self, relation: Relation, among: Among, buffers: Buffers) -> None:
        self.relation, self.among, self.buffers = relation, among, buffers
        self.rows, self.columns = relation.row_ids, relation.column_ids
        self.on_cpu = buffers.device.type == "cpu"
        self.guided = relation.guide.rows is not None and among == "negatives"
        if self.guided:
            self.units = guide_units(relation.guide, buffers.dtype)
        if self.by_ids and self.on_cpu:
            assert self.rows is not None
            assert self.columns is not None
            both, n = torch.cat([self.rows, self.columns]), len(self.rows)
            codes = torch.unique(both, return_inverse=True)[1]
            codes = codes.to(buffers.dtype if len(both) < 1 << 24 else torch.float64)
            self.rows, self.columns = codes[:n], codes[n:]

    @property
    def by_ids(self) -> bool:
        """Whether relatedness is a matter of ids."""
        return self.rows is not None and self.relation.positives is None

    def diagonal(self, tile: Tile) -> int | None:
        """The offset of the pairs with equal global numbers in this tile, if it holds any."""
        row = self.relation.row_offset + tile.rows.start
        offset = row - self.relation.column_offset - tile.columns.start
        rows, columns = tile.shape
        return offset if -rows < offset < columns else None

    def ids_meet(self, tile: Tile) -> bool:
        """Whether any id can occur on both sides of the tile; always true where asking would synchronise."""
        if not self.on_cpu:
            return True
        assert self.rows is not None
        assert self.columns is not None
        rows, columns = self.rows[tile.rows], self.columns[tile.columns]
        return bool(rows.min() <= columns.max()) and bool(columns.min() <= rows.max())

    def empty(self, tile: Tile) -> bool:
        """Whether nothing in the tile takes part, known without looking at every pair."""
        if self.among != "positives" or self.relation.positives is not None:
            return False
        if self.by_ids and self.ids_meet(tile):
            return False
        on_diagonal = self.diagonal(tile) is not None
        own = self.relation.paired or not self.by_ids
        return not (on_diagonal and own and not self.relation.same_set)

    def fill(self, scores: Tensor, tile: Tile, value: float) -> Tensor:
        """Put ``value`` (plus or minus ``excluded_value``) in place of every left-out pair, in place."""
        offset = self.diagonal(tile)
        own = None if offset is None else scores.diagonal(offset)
        if self.among == "positives":
            kept = None if own is None or not self.relation.paired else own.clone()
            self.fill_unrelated(scores, tile, value)
            if kept is not None and own is not None:
                own.copy_(kept)
        else:
            self.fill_related(scores, tile, value)
        if own is not None and self.relation.same_set:
            own.fill_(value)
        if self.relation.ignore is not None:
            scores.masked_fill_(self.relation.ignore[tile.rows, tile.columns], value)
        if self.guided:
            self.fill_guided(scores, tile, value)
        return scores

    def fill_guided(self, scores: Tensor, tile: Tile, value: float) -> None:
        """Leave out the pairs that score too high by the guide."""
        bounds, (q, c) = self.relation.guide.bounds, self.units
        assert bounds is not None
        columns, bounds = c[tile.columns].T, bounds[tile.rows, None]
        if not self.on_cpu:
            scores.masked_fill_(torch.mm(q[tile.rows], columns) >= bounds, value)
            return
        q = q[tile.rows]
        for rows in chunks(len(q), max(1, GUIDED // columns.shape[1])):
            beyond = torch.mm(q[rows], columns).ge_(bounds[rows])
            # twice left out is infinite
            scores[rows].add_(beyond, alpha=value).clamp_(-abs(value), abs(value))

    def fill_related(self, scores: Tensor, tile: Tile, value: float) -> None:
        """Leave out the pairs that share an id."""
        offset = self.diagonal(tile)
        if self.relation.positives is not None:
            scores.masked_fill_(self.relation.positives[tile.rows, tile.columns], value)
        elif self.by_ids and self.ids_meet(tile):
            self.mark(scores, tile, value, torch.eq)
        if offset is not None and (self.relation.paired or self.implicit):
            scores.diagonal(offset).fill_(value)

    def fill_unrelated(self, scores: Tensor, tile: Tile, value: float) -> None:
        """Leave out the pairs that share no id."""
        offset = self.diagonal(tile)
        if self.relation.positives is not None:
            scores.masked_fill_(~self.relation.positives[tile.rows, tile.columns], value)
        elif self.by_ids:
            self.mark(scores, tile, value, torch.ne)
        else:
            kept = None if offset is None else scores.diagonal(offset).clone()
            scores.fill_(value)
            if offset is not None and kept is not None:
                scores.diagonal(offset).copy_(kept)

    @property
    def implicit(self) -> bool:
        """Whether ids are the row numbers."""
        return self.relation.row_ids is None and self.relation.positives is None

    def mark(
        self, scores: Tensor, tile: Tile, value: float, compare: Callable[..., Tensor]
    ) -> None:
        """Leave out the pairs whose ids compare so."""
        assert self.rows is not None
        assert self.columns is not None
        rows, columns = self.rows[tile.rows, None], self.columns[None, tile.columns]
        if self.on_cpu:
            flags = self.buffers.get("flags", tile)
            scores.add_(compare(rows, columns, out=flags), alpha=value)
        else:
            scores.masked_fill_(compare(rows, columns), value)
