"""Tiled ``select``: the k first admitted candidates of every row and column."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import torch
from torch import Tensor

from hardneg.negatives.selection import Selection, with_fallback
from hardneg.ops.comparison import Comparison
from hardneg.ops.grid import grid, long_tile
from hardneg.ops.requests import Search
from hardneg.ops.scores import Selected
from hardneg.ops.tiled.side import Pass, Scored, Side
from hardneg.similarities import Cosine, Dot

__all__ = ["select"]

EASIEST = Selection("lowest", 1)
HARDEST = Selection("highest", 1)
FEW = 32
"""Up to so many places both sides are searched in one pass where scores are no products, or few."""
SMALL = 1 << 24


def select(comparison: Comparison, search: Search, tile: tuple[int, int] | None = None) -> Selected:
    """See ``reference.select``."""
    width = search.selection.k - search.selection.skip
    none = torch.empty(0, width, dtype=torch.long, device=comparison.queries.device)
    found = {True: (none, none[:, :1]), False: (none, none[:, :1])}
    for each in passes(comparison, search, tile):
        wanted = [of_rows for of_rows in (True, False) if asked(each.search, of_rows)]
        sides = {of_rows: sides_of(each, of_rows) for of_rows in wanted}
        scan(each, [side for both in sides.values() for side in both])
        for of_rows, mine in sides.items():
            found[of_rows != each.swapped] = settle(search.selection, search.hardest, mine)
    return Selected(found[True][0], found[False][0], found[True][1], found[False][1])


def asked(search: Search, of_rows: bool) -> bool:
    """Whether a side searches."""
    return search.rows if of_rows else search.columns


def passes(comparison: Comparison, search: Search, tile: tuple[int, int] | None) -> Iterator[Pass]:
    """The passes over the tiles: one for both sides, or one for each.

    On a CPU a side that looks for several finds them fastest alone, in rows, in tiles of its own. Where
    there are many tiles, that outweighs a second product of matrices, but not scores that cost more.
    """
    n, m, k = len(comparison.queries), len(comparison.candidates), search.selection.k
    both, on_cpu = search.rows and search.columns, comparison.queries.device.type == "cpu"
    product = type(comparison.similarity) in (Cosine, Dot)
    together = both and k <= FEW and (not product or n * m <= SMALL)
    if tile is not None or not on_cpu or k == 1 or together:
        if search.rows or search.columns:
            yield Pass(comparison, search, tile)
        return
    if search.rows:
        yield Pass(comparison, replace(search, columns=False), long_tile(n, m, k))
    if search.columns and product:
        turned = replace(search, rows=True, columns=False, window=search.window.swapped())
        yield Pass(comparison.swapped(), turned, long_tile(m, n, k), swapped=True)
    elif search.columns:
        yield Pass(comparison, replace(search, rows=False), long_tile(m, n, k)[::-1])


def sides_of(where: Pass, of_rows: bool) -> list[Side]:
    """What rows, or columns, look for: the selection, then its fallback and the hardest of all where asked for."""
    selection, hardest = where.search.selection, where.search.hardest
    more = [Side(where, each, False, of_rows) for each in further(selection, hardest)]
    return [Side(where, selection, True, of_rows), *more]


def further(selection: Selection, hardest: bool) -> list[Selection]:
    """What is looked for beside the selection: its fallback, and the hardest of all."""
    fallback = {"easiest": [EASIEST], "hardest": [HARDEST], "none": []}[selection.fallback]
    return fallback + ([HARDEST] if hardest else [])


def settle(selection: Selection, hardest: bool, sides: list[Side]) -> tuple[Tensor, Tensor]:
    """The selection with its fallback, and the hardest of all (empty unless asked for)."""
    chosen = sides[0].best.chosen()[:, selection.skip :].contiguous()
    if selection.fallback != "none":
        chosen = with_fallback(chosen, sides[1].best.chosen())
    top = sides[-1].best.chosen()
    return chosen, top if hardest else top[:0, :1]


def scan(where: Pass, sides: list[Side]) -> None:
    """One pass over the tiles; sides that need keys of their own go before the scores are marked."""
    n, m = len(where.comparison.queries), len(where.comparison.candidates)
    for tile in grid(n, m, where.tiles.tile):
        if where.admission.empty(tile):
            continue
        scored = Scored(where.admission, where.tiles.scores(tile), tile)
        for side in sorted(sides, key=lambda side: side.plain):
            side.take(scored)
