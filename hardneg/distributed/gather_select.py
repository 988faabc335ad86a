"""``select`` over the rows of all ranks, from what each rank selects for its own rows and for all columns."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from hardneg.distributed.columns import merge_columns
from hardneg.distributed.local_shard import LocalShard
from hardneg.negatives import Selection
from hardneg.negatives.selection import COLUMN_SALT, pair_keys, with_fallback
from hardneg.ops.requests import Search
from hardneg.ops.scores import Selected

__all__ = ["gather_select"]


def gather_select(shard: LocalShard, search: Search) -> Selected:
    """The selection of all rows and columns.

    A column's fallback can be told only once all ranks have answered.
    """
    search, selection = replace(search, seed=shard.one_seed(search.seed)), search.selection
    if not search.columns:
        return select_rows(shard, search)
    plain = replace(selection, skip=0, fallback="none")
    wants_hardest = search.hardest or selection.fallback == "hardest"
    found = select_both(shard, replace(search, selection=plain, hardest=wants_hardest))
    sides = found.rows[:, selection.skip :], found.columns[:, selection.skip :]
    if selection.fallback != "none":
        fallback: tuple[Tensor, Tensor] = found.hardest_rows, found.hardest_columns
        if selection.fallback == "easiest":
            lowest = Search(Selection("lowest", 1), search.among, rows=search.rows)
            fallback = select_both(shard, lowest)[:2]
        sides = with_fallback(sides[0], fallback[0]), with_fallback(sides[1], fallback[1])
    kept = slice(None if search.hardest else 0)
    return Selected(*sides, found.hardest_rows[kept], found.hardest_columns[kept])


def select_rows(shard: LocalShard, search: Search) -> Selected:
    """Of the rows alone: what each rank finds for its own is final."""
    found = select_here(shard, search)
    top = shard.gather_rows(found.hardest_rows) if search.hardest else found.hardest_rows
    return Selected(shard.gather_rows(found.rows), found.columns, top, found.hardest_columns)


def select_both(shard: LocalShard, search: Search) -> Selected:
    """Of the columns, and of the rows where asked for, without any fallback."""
    found, rows, hardest = select_here(shard, search), search.rows, search.hardest
    highest = Selection("highest", 1)
    top = found.hardest_columns
    return Selected(
        shard.gather_rows(found.rows) if rows else found.rows,
        merge_selected(shard, found.columns, search.selection, search.seed),
        shard.gather_rows(found.hardest_rows) if rows and hardest else found.hardest_rows,
        merge_selected(shard, top, highest, None) if hardest else top,
    )


def select_here(shard: LocalShard, search: Search) -> Selected:
    """What the own rows select, and what the columns select of the own rows."""
    own = replace(search, window=shard.window(search.window))
    return shard.scores.select(own)


@torch.no_grad()
def merge_selected(
    shard: LocalShard, picks: Tensor, selection: Selection, seed: Tensor | None
) -> Tensor:
    """The picks of all ranks' rows for every column, from those of the own rows.

    They are compared by scores computed anew from the embeddings, alike on every rank.
    """
    columns = torch.arange(len(picks), device=picks.device)[:, None].expand_as(picks)
    scores = shard.scores.pairs(picks, columns)
    places = torch.where(picks >= 0, picks + shard.start, -1)
    similarity = shard.comparison.similarity
    keys = pair_keys(scores, selection, similarity, seed, columns, places, COLUMN_SALT)
    return merge_columns(keys, places, shard.ranks)
