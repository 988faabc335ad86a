"""``select`` over shards of candidates that come one after the other."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from hardneg.distributed.columns import first_k, merged
from hardneg.distributed.part import Part, sharded
from hardneg.distributed.ring import block_of, bounds_of, shards
from hardneg.ops.description import Comparison
from hardneg.ops.requests import Search
from hardneg.selection import COLUMN_SALT, ROW_SALT, pair_keys
from hardneg.similarities import working

__all__ = ["searched"]


class Found:
    """The best candidates of the own rows so far, and the own rows that are best for every candidate."""

    def __init__(self, part: Part, search: Search) -> None:
        self.part, self.search, self.k = part, search, search.selection.k
        queries, m = working(part.comparison.queries), part.comparison.candidates.shape[0]
        n, m = len(queries) if search.rows else 0, m if search.columns else 0
        self.row_keys = queries.new_full((n, self.k), -torch.inf)
        self.row_picks = torch.full((n, self.k), -1, device=queries.device)
        self.column_keys = queries.new_full((m, self.k), -torch.inf)
        self.column_picks = torch.full((m, self.k), -1, device=queries.device)

    def take(self, block: Comparison, where: slice) -> None:
        """Search one block."""
        bounds = bounds_of(self.part, self.search.window, where)
        found = self.part.executor.select(block, replace(self.search, window=bounds))
        if self.search.rows:
            own = torch.arange(len(found.rows), device=found.rows.device)[:, None]
            keys, picks = self.keys(block, where, own, found.rows, of_rows=True)
            self.keep(keys, picks)
        if self.search.columns:
            own = torch.arange(len(found.columns), device=found.columns.device)[:, None]
            keys, picks = self.keys(block, where, found.columns, own, of_rows=False)
            self.column_keys[where], self.column_picks[where] = keys, picks

    def keys(
        self, block: Comparison, where: slice, rows: Tensor, columns: Tensor, of_rows: bool
    ) -> tuple[Tensor, Tensor]:
        """What the picks are ranked by, scored anew, and their global numbers."""
        rows, columns = torch.broadcast_tensors(rows, columns)
        scores = self.part.executor.pair_scores(block, rows, columns)
        row, column = rows + self.part.start, columns + where.start
        anchors, others = (row, column) if of_rows else (column, row)
        salt, search = (ROW_SALT if of_rows else COLUMN_SALT), self.search
        keys = pair_keys(
            scores, search.selection, block.similarity, search.seed, anchors, others, salt
        )
        return keys, torch.where((rows >= 0) & (columns >= 0), others, -1)

    def keep(self, keys: Tensor, picks: Tensor) -> None:
        """The best of the old and the new; blocks come in any order, so indices are made to rise first."""
        both, which = torch.cat([self.row_keys, keys], 1), torch.cat([self.row_picks, picks], 1)
        which, order = which.sort(dim=1)
        self.row_keys, self.row_picks = first_k(both.gather(1, order), which, self.k)

    def settled(self) -> tuple[Tensor, Tensor]:
        """The picks of all rows and of all columns, on every rank; a side not asked for is empty."""
        rows, columns = self.row_picks, self.column_picks
        if len(rows):
            rows = self.part.all_rows(rows)
        if len(columns):
            columns = merged(self.column_keys, columns, self.part.ranks)
        return rows, columns


@torch.no_grad()
def searched(part: Part, wanted: list[Search]) -> list[tuple[Tensor, Tensor]]:
    """The picks of rows and columns for several searches without fallback, on one way around."""
    found = [Found(part, each) for each in wanted]
    candidates = sharded(part.comparison.candidates)
    for owner, held in shards(candidates.local, candidates.rows, part.ranks, part.ranks.size):
        for run in candidates.rows.runs(owner):
            block = block_of(part, part.comparison.queries, held[run.local], run.everywhere)
            for each in found:
                each.take(block, run.everywhere)
    return [each.settled() for each in found]
