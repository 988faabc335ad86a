"""Tiled ``select`` under one ceiling for each listed (anchor, positive) pair: semi-hard with label positives."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from hardneg.negatives.selection import ROW_SALT, ranking_keys, with_fallback
from hardneg.ops.comparison import Comparison
from hardneg.ops.grid import Tile, chunks
from hardneg.ops.requests import PairSearch
from hardneg.ops.tiled.admission import Admission, excluded_value
from hardneg.ops.tiled.scores import TileScores, tile_scores
from hardneg.ops.tiled.top_k import first_k

if TYPE_CHECKING:
    from jaxtyping import Bool, Float, Int

__all__ = ["select_per_pair"]

BLOCK_ELEMENTS = 1 << 20


def select_per_pair(comparison: Comparison, search: PairSearch) -> Int[Tensor, "t k"]:
    """See ``DenseScores.select_per_pair``.

    A block of full rows is ranked once; the answer to each ceiling is then a search among the
    ranked scores (order ``"highest"``), or the first k of the ranked keys below it.
    """
    anchors, selection = search.anchors, search.selection
    n, m = len(comparison.queries), len(comparison.candidates)
    tiles = tile_scores(comparison, (max(1, BLOCK_ELEMENTS // m), m))
    admission = Admission(comparison.relation, "negatives", tiles.buffers)
    width = selection.k - selection.skip
    chosen = torch.full((len(anchors), width), -1, dtype=torch.long, device=anchors.device)
    for rows in chunks(n, tiles.tile[0]):
        edges = torch.tensor([rows.start, rows.stop], device=anchors.device)
        start, stop = torch.searchsorted(anchors, edges).tolist()
        if stop > start:
            mine = slice(start, stop)
            block = Block(comparison, tiles, admission, Tile(rows, slice(0, m)))
            own = anchors[mine] - rows.start
            found = replace(search, anchors=own, ceilings=search.ceilings[mine])
            chosen[mine] = block.select(found)
    return chosen


class Block:
    """Full rows of scores, the left-out ones known."""

    def __init__(
        self, comparison: Comparison, tiles: TileScores, admission: Admission, tile: Tile
    ) -> None:
        self.comparison, self.tile = comparison, tile
        self.lowest = -excluded_value(tiles.buffers.dtype)
        self.scores = admission.fill(tiles.scores(tile), tile, self.lowest)
        self.taken: Bool[Tensor, "r m"] = self.scores > self.lowest / 2

    def select(self, search: PairSearch) -> Int[Tensor, "t k"]:
        """The selection of every pair of the block, with its fallback."""
        anchors, selection, (floor, ceilings) = search.anchors, search.selection, search.bounds
        inside = self.taken
        if floor is not None:
            inside = inside & (self.scores > search.score_range[0])
        ranked, order = self.scores.sort(dim=1, descending=True, stable=True)
        counts = self.taken.sum(dim=1)
        rising = -ranked
        above = rank_in_rows(rising, anchors, -ceilings, right=True)
        if selection.order == "highest":
            chosen = consecutive(order, inside.sum(dim=1), anchors, above, selection.k)
        else:
            chosen = self.first_below(inside, ceilings, search)
        chosen = chosen[:, selection.skip :]
        if selection.fallback == "none":
            return chosen
        if selection.fallback == "easiest":
            last = ranked.gather(1, (counts - 1).clamp(min=0)[:, None])[:, 0]
            place = rank_in_rows(rising, anchors, -last[anchors], right=False)
        else:
            place = torch.zeros_like(anchors)
        return with_fallback(chosen, consecutive(order, counts, anchors, place, 1))

    def first_below(
        self, taken: Bool[Tensor, "r m"], ceilings: Float[Tensor, "t"], search: PairSearch
    ) -> Int[Tensor, "t k"]:
        """Order by keys other than the score: one masked ranking a pair, some pairs at a time."""
        anchors, selection = search.anchors, search.selection
        relation, tile, device = self.comparison.relation, self.tile, anchors.device
        row = torch.arange(tile.rows.start, tile.rows.stop, device=device) + relation.row_offset
        column = torch.arange(self.scores.shape[1], device=device) + relation.column_offset
        safe = torch.where(self.taken, self.scores, 0.0)
        similarity = self.comparison.similarity
        keys = ranking_keys(safe, selection, similarity, search.seed, row, column, ROW_SALT)
        found = []
        for part in chunks(len(anchors), len(self.scores)):
            which, bound = anchors[part], ceilings[part]
            inside = taken[which] & (self.scores[which] < bound[:, None])
            masked = torch.where(inside, keys[which], self.lowest)
            values, order = first_k(masked, selection.k)
            kept = torch.where(values > self.lowest / 2, order, -1)
            found.append(torch.nn.functional.pad(kept, (0, selection.k - kept.shape[1]), value=-1))
        return torch.cat(found)


def rank_in_rows(
    rising: Float[Tensor, "r m"], rows: Int[Tensor, "t"], values: Float[Tensor, "t"], right: bool
) -> Int[Tensor, "t"]:
    """Where each value stands in its rising row; the pairs of a row are searched together."""
    counts = torch.bincount(rows, minlength=len(rising))
    slot = torch.arange(len(rows), device=rows.device) - (counts.cumsum(0) - counts)[rows]
    grid = rising.new_zeros(len(rising), int(counts.max()))
    grid[rows, slot] = values
    return torch.searchsorted(rising, grid, right=right)[rows, slot]


def consecutive(
    order: Int[Tensor, "r m"], counts: Int[Tensor, "r"], rows: Tensor, place: Tensor, k: int
) -> Int[Tensor, "t k"]:
    """The k candidates from each place on in the ranked rows, -1 behind the last admitted one."""
    places = place[:, None] + torch.arange(k, device=place.device)
    inside = places < counts[rows][:, None]
    found = order[rows[:, None], places.clamp(max=order.shape[1] - 1)]
    return torch.where(inside, found, -1)
