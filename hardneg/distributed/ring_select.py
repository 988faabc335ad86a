"""``select`` over shards of candidates that come one after the other."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from hardneg.distributed.columns import first_k, merge_columns
from hardneg.distributed.local_shard import LocalShard, as_sharded
from hardneg.distributed.ring_passes import block_of, bounds_of, guided_shards
from hardneg.negatives import Selection
from hardneg.negatives.selection import COLUMN_SALT, ROW_SALT, pair_keys, with_fallback
from hardneg.ops.comparison import Comparison
from hardneg.ops.requests import Search
from hardneg.ops.scores import Selected
from hardneg.similarities import upcast

__all__ = ["ring_select"]


class RingSearch:
    """The best candidates of the own rows so far, and the own rows that are best for every candidate."""

    def __init__(self, shard: LocalShard, search: Search) -> None:
        self.shard, self.search, self.k = shard, search, search.selection.k
        queries, m = upcast(shard.comparison.queries), shard.comparison.candidates.shape[0]
        n, m = len(queries) if search.rows else 0, m if search.columns else 0
        self.row_keys = queries.new_full((n, self.k), -torch.inf)
        self.row_picks = torch.full((n, self.k), -1, device=queries.device)
        self.column_keys = queries.new_full((m, self.k), -torch.inf)
        self.column_picks = torch.full((m, self.k), -1, device=queries.device)

    def take(self, block: Comparison, where: slice) -> None:
        """Search one block."""
        bounds = bounds_of(self.shard, self.search.window, where)
        found = self.shard.bind(block).select(replace(self.search, window=bounds))
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
        scores = self.shard.bind(block).pairs(rows, columns)
        row, column = rows + self.shard.start, columns + where.start
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
            rows = self.shard.gather_rows(rows)
        if len(columns):
            columns = merge_columns(self.column_keys, columns, self.shard.ranks)
        return rows, columns


def ring_select(shard: LocalShard, search: Search) -> Selected:
    """The selection of all rows and columns, with fallback and hardest, on one way around."""
    selection, hardest = search.selection, search.hardest
    plain, seed = replace(selection, skip=0, fallback="none"), shard.one_seed(search.seed)
    wanted = [replace(search, selection=plain, seed=seed, hardest=False)]
    fallback = {"easiest": ["lowest"], "hardest": ["highest"], "none": []}[selection.fallback]
    for order in fallback + ["highest"] * hardest:
        one = Selection(order, 1)
        wanted.append(Search(one, search.among, rows=search.rows, columns=search.columns))
    found = search_shards(shard, wanted)
    sides = []
    for side in range(2):
        chosen = found[0][side][:, selection.skip :]
        sides.append(with_fallback(chosen, found[1][side]) if fallback else chosen)
    top = found[-1] if hardest else [x[:0, :1] for x in found[0]]
    return Selected(*sides, *top)


@torch.no_grad()
def search_shards(shard: LocalShard, wanted: list[Search]) -> list[tuple[Tensor, Tensor]]:
    """The picks of rows and columns for several searches without fallback, on one way around."""
    found = [RingSearch(shard, each) for each in wanted]
    candidates = as_sharded(shard.comparison.candidates)
    for owner, held, guide in guided_shards(shard, shard.ranks.size):
        for run in candidates.rows.runs(owner):
            part = None if guide is None else guide[run.local]
            some = shard.comparison.queries, held[run.local], run.everywhere
            block = block_of(shard, *some, part)
            for each in found:
                each.take(block, run.everywhere)
    return [each.settled() for each in found]
