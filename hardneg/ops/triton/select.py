"""Fused ``select``: rows and columns in one pass for k = 1, a pass each for more."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, replace

import torch
import triton
from torch import Tensor

from hardneg.negatives.selection import COLUMN_SALT, ROW_SALT
from hardneg.ops.comparison import Comparison
from hardneg.ops.requests import Search
from hardneg.ops.scores import Selected
from hardneg.ops.triton.admission import relation_argument
from hardneg.ops.triton.arguments import (
    BEYOND,
    NO_KEYS,
    Bounds,
    Extent,
    Keys,
    Panel,
    Ranking,
    Relation,
    constant,
)
from hardneg.ops.triton.best import best_kernel
from hardneg.ops.triton.forms import RANKINGS, SIMILARITIES
from hardneg.ops.triton.keys import no_keys
from hardneg.ops.triton.launch import architecture, blocks_of, launch, programs
from hardneg.ops.triton.operands import Operands, bounds_of, operands, padded
from hardneg.ops.triton.settle import settled
from hardneg.ops.triton.top import top_kernel
from hardneg.ops.triton.tuning import NARROW, SHORT, Configuration, configuration

__all__ = ["select"]


@dataclass(frozen=True, eq=False, repr=False)
class PreparedSearch:
    """What is looked for, beside the scores in which it is looked for.

    Attributes:
        comparison, search: as ``reference.select`` takes them.
        ready: what the kernels read.
        bounds, salts: of rows and of columns.
        one_set: whether columns are the rows once more, and only rows search.
    """

    comparison: Comparison
    search: Search
    ready: Operands
    bounds: tuple[Bounds, Bounds]
    salts: tuple[int, int] = (ROW_SALT, COLUMN_SALT)
    one_set: bool = False

    @property
    def plain(self) -> bool:
        """Whether the selection's own first is the hardest of all."""
        return self.search.selection.order == "highest" and self.search.window.open

    @property
    def rescues(self) -> bool:
        """Whether an anchor with candidates may select none, and then takes a fallback."""
        chosen = self.search.selection
        always = (
            self.search.window.open and chosen.skip == 0 and chosen.order != "distance_weighted"
        )
        return chosen.fallback != "none" and not always

    def swapped(self) -> PreparedSearch:
        """The same with columns for rows."""
        search = replace(self.search, window=self.search.window.swapped())
        given = self.comparison.swapped(), search, self.ready.swapped()
        return PreparedSearch(*given, self.bounds[::-1], self.salts[::-1])

    def relation(self) -> Relation:
        """What ``admitted_mask`` takes."""
        return relation_argument(self.comparison.relation, self.search.among)

    def ranking(self) -> Ranking:
        """What candidates are ranked by."""
        selection = self.search.selection
        distance = SIMILARITIES[self.comparison.similarity].distance
        numbers = selection.parameters or (0.0, 0.0, 0.0)
        assert isinstance(selection.order, str)  # others have no kernel: see why_no_kernel
        value = RANKINGS[selection.order]
        return Ranking(value, distance, self.search.seed, *(constant(x) for x in numbers))

    def keys(self, keys: Tensor, axis: int, easiest: bool = False, hardest: bool = False) -> Keys:
        """Keys of the rows (axis 0) or columns (1), one row of them for each kind."""
        others = keys[1] if easiest else None, keys[2] if hardest else None
        return Keys(keys, *others, self.bounds[axis], constant(self.salts[axis]))


def select(comparison: Comparison, search: Search, one_set: bool = False) -> Selected:
    """See ``reference.select``; ``one_set`` as in ``Engine``."""
    given = comparison, search, operands(comparison), bounds_of(search.window, one_set)
    prepared = PreparedSearch(*given, one_set=one_set)
    of_rows, of_columns = best_keys(prepared)
    if search.selection.k == 1:
        lists = tuple(None if keys is None else keys[0, :, None] for keys in (of_rows, of_columns))
    else:
        lists = (
            top_keys(prepared) if search.rows else None,
            top_keys(prepared.swapped()) if search.columns else None,
        )
    (chosen, top), (of_candidates, their_top) = (
        of_side(prepared, keys, best)
        for keys, best in zip(lists, (of_rows, of_columns), strict=True)
    )
    return Selected(chosen, of_candidates, top, their_top)


def of_side(
    prepared: PreparedSearch, keys: Tensor | None, best: Tensor | None
) -> tuple[Tensor, Tensor]:
    """The selected of one side, and its hardest (empty unless asked for)."""
    selection, device = prepared.search.selection, prepared.ready.queries.device
    if keys is None:
        width = selection.k - selection.skip
        none = torch.empty(0, width, dtype=torch.int64, device=device)
        return none, none[:, :1]
    rescue = None
    if prepared.rescues:
        assert best is not None
        rescue = best[1 if selection.fallback == "easiest" else 2]
        if prepared.plain and selection.fallback == "hardest":
            rescue = keys[:, 0].contiguous()
    chosen = settled(keys, rescue, selection.skip)
    if not prepared.search.hardest:
        return chosen, chosen[:0, :1]
    top = keys[:, :1] if prepared.plain or best is None else best[2, :, None]
    return chosen, settled(top)


def best_keys(prepared: PreparedSearch) -> tuple[Tensor | None, Tensor | None]:
    """Keys (3 x n, 3 x m) of the selection where k = 1, of the easiest and of the hardest, from one pass."""
    n, m, _ = prepared.ready.shape
    device, search = prepared.ready.queries.device, prepared.search
    rows, columns, selection = search.rows, search.columns, search.selection
    single_one = selection.k == 1
    easiest = prepared.rescues and selection.fallback == "easiest"
    hardest = search.hardest or (prepared.rescues and selection.fallback == "hardest")
    hardest = hardest and not prepared.plain
    if not (single_one or easiest or hardest):
        return None, None
    # one allocation and one fill; every kind of key is aligned, whatever n and m
    room = padded(n + BEYOND), padded(m + BEYOND)
    places = no_keys(3, sum(room), device=device)
    of_rows, of_columns = places[:, :n], places[:, room[0] :][:, :m]
    ranking = prepared.ranking()
    keys_of_rows = prepared.keys(of_rows, 0, easiest, hardest) if rows else NO_KEYS
    keys_of_columns = prepared.keys(of_columns, 1, easiest, hardest) if columns else NO_KEYS
    if prepared.one_set:  # tiles above the diagonal alone, for both of its anchors
        keys_of_columns = keys_of_rows
    given = (
        prepared.relation(),
        ranking if single_one else ranking._replace(value=None),
        keys_of_rows,
        keys_of_columns,
    )
    plain = prepared.plain and single_one
    kind = "best" if plain else "ranked"
    ready = prepared.ready
    narrow = ready.tiles == "product16" and ready.width <= NARROW
    variant = "narrow16" if narrow else None
    chosen = configuration(kind, ready.tiles, architecture(device), variant)
    told = {"PLAIN": plain, "UPPER": prepared.one_set}
    for panel, extent in ready.panels(upper=prepared.one_set):
        height, width = extent.shape
        grid = (blocks_of(chosen.rows, height) * blocks_of(chosen.columns, width),)
        launch(best_kernel, grid, chosen, panel, *extent, *given, **told)
    return (of_rows if rows else None), (of_columns if columns else None)


def top_keys(prepared: PreparedSearch) -> Tensor:
    """The k first keys of every row (n x k), highest first."""
    ready, given = prepared.ready, (prepared.relation(), prepared.ranking())
    short = ready.source == "product16" and prepared.search.selection.k <= SHORT and prepared.plain
    variant = "short16" if short else None
    chosen = configuration("top", ready.source, architecture(ready.queries.device), variant)
    merged = []
    for _, panels in itertools.groupby(ready.panels(), key=lambda panel: panel[1].rows):
        parts = [lists_of(prepared, *panel, given, chosen) for panel in panels]
        # no two candidates have one key, so topk has no ties to order
        every = torch.cat(parts).transpose(0, 1).flatten(1)
        merged.append(every.topk(prepared.search.selection.k, dim=1).values)
    return torch.cat(merged) if len(merged) > 1 else merged[0]


def lists_of(
    prepared: PreparedSearch,
    panel: Panel,
    extent: Extent,
    given: tuple[Relation, Ranking],
    chosen: Configuration,
) -> Tensor:
    """The lists of every row of a panel, one a share of its columns: shares x rows x places."""
    height, width = extent.shape
    device = prepared.ready.queries.device
    row_blocks = blocks_of(chosen.rows, height)
    column_blocks = blocks_of(chosen.columns, width)
    wanted = min(column_blocks, max(1, programs(device) // row_blocks))
    share = blocks_of(wanted, column_blocks) * chosen.columns
    shares = blocks_of(share, width)
    places = triton.next_power_of_2(prepared.search.selection.k)
    keys = torch.empty(shares, height, places, dtype=torch.int64, device=device)
    side = prepared.keys(keys, 0)
    arguments = panel, *extent, *given, side, share
    launch(top_kernel, (row_blocks, shares), chosen, *arguments, PLACES=places)
    return keys
