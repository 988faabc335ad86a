"""``select`` over the rows of all ranks, from what each rank selects for its own rows and for all columns."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from hardneg.distributed.columns import merged
from hardneg.distributed.part import Part
from hardneg.ops.executor import Selected
from hardneg.ops.requests import Search
from hardneg.selection import COLUMN_SALT, Selection, pair_keys

__all__ = ["both_selected", "rescued", "rows_selected"]


def rows_selected(part: Part, search: Search) -> Selected:
    """Of the rows alone: what each rank finds for its own is final."""
    found = searched_here(part, search)
    top = part.all_rows(found.hardest_rows) if search.hardest else found.hardest_rows
    return Selected(part.all_rows(found.rows), found.columns, top, found.hardest_columns)


def both_selected(part: Part, search: Search) -> Selected:
    """Of the columns, and of the rows where asked for, without any fallback."""
    found, rows, hardest = searched_here(part, search), search.rows, search.hardest
    highest = Selection("highest", 1)
    top = found.hardest_columns
    return Selected(
        part.all_rows(found.rows) if rows else found.rows,
        columns_settled(part, found.columns, search.selection, search.seed),
        part.all_rows(found.hardest_rows) if rows and hardest else found.hardest_rows,
        columns_settled(part, top, highest, None) if hardest else top,
    )


def searched_here(part: Part, search: Search) -> Selected:
    """What the own rows select, and what the columns select of the own rows."""
    own = replace(search, window=part.window(search.window))
    return part.executor.select(part.comparison, own)


@torch.no_grad()
def columns_settled(part: Part, picks: Tensor, selection: Selection, seed: Tensor | None) -> Tensor:
    """The picks of all ranks' rows for every column, from those of the own rows.

    They are compared by scores computed anew from the embeddings, alike on every rank.
    """
    columns = torch.arange(len(picks), device=picks.device)[:, None].expand_as(picks)
    scores = part.executor.pair_scores(part.comparison, picks, columns)
    places = torch.where(picks >= 0, picks + part.start, -1)
    similarity = part.comparison.similarity
    keys = pair_keys(scores, selection, similarity, seed, columns, places, COLUMN_SALT)
    return merged(keys, places, part.ranks)


def rescued(picks: Tensor, rescue: Tensor) -> Tensor:
    """The fallback in the first place of every anchor that has none."""
    first = torch.where(picks[:, :1] < 0, rescue, picks[:, :1])
    return torch.cat([first, picks[:, 1:]], dim=1)
