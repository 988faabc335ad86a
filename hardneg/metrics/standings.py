"""Where the relevant candidates of each query stand, a few rows of scores at a time."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from hardneg.metrics.ranking import Ranking
from hardneg.metrics.relevance import Relevant
from hardneg.metrics.work_share import rows_here
from hardneg.ops.grid import Tile, chunks
from hardneg.ops.tiled.scores import TileScores, tile_scores

if TYPE_CHECKING:
    from jaxtyping import Bool, Float, Int

__all__ = ["Standing", "score_panels", "standings"]

PANEL_ELEMENTS = {"cpu": 1 << 22, "cuda": 1 << 25}
FEW = 8
"""Up to so many thresholds a query are compared one by one; more are sorted."""


@dataclass(frozen=True, eq=False)
class Standing:
    """The relevant candidates of a block of queries, in the order in which they are retrieved.

    Attributes:
        rows: which queries.
        positions: rank from 0 of each relevant candidate among all, ties against the model.
        valid: which entries are meant; they stand first in each row.
        gains: graded relevance of each, or None.
    """

    rows: slice
    positions: Int[Tensor, "r l"]
    valid: Bool[Tensor, "r l"]
    gains: Float[Tensor, "r l"] | None

    def to(self, device: torch.device) -> Standing:
        """The same on a device with float64, gains in it."""
        gains = None if self.gains is None else self.gains.to(device).to(torch.float64)
        return Standing(self.rows, self.positions.to(device), self.valid.to(device), gains)


def panel_rows(n: int, m: int, device: torch.device) -> int:
    """How many rows of scores are held at a time."""
    kind = "cpu" if device.type == "cpu" else "cuda"
    return max(1, min(n, PANEL_ELEMENTS[kind] // m))


def standings(ranking: Ranking, relevant: Relevant, best_only: bool = False) -> Iterator[Standing]:
    """Every query's relevant candidates, or only the best of them, a block of queries at a time.

    A block's scores are one tile of full width. Relevant scores are read from that tile, where
    their rivals stand, and compared with it: no score is computed twice or in another way.
    """
    for rows, scores, tiles in score_panels(ranking, len(relevant.counts)):
        yield compute_standing(ranking, relevant, (rows, scores, tiles), best_only)


def score_panels(
    ranking: Ranking, n: int
) -> Iterator[tuple[slice, Float[Tensor, "r m"], TileScores]]:
    """The scores of the queries, out of n, that this process ranks: a block at a time, in one buffer."""
    compared = ranking.comparison
    own, m = rows_here(n), len(compared.candidates)
    size = panel_rows(own.stop - own.start, m, compared.queries.device)
    tiles = tile_scores(compared, (size, m))
    for part in chunks(own.stop - own.start, size):
        rows = slice(own.start + part.start, own.start + part.stop)
        held = slice(rows.start - ranking.first, rows.stop - ranking.first)
        yield rows, tiles.scores(Tile(held, slice(0, m))), tiles


def compute_standing(
    ranking: Ranking,
    relevant: Relevant,
    panel: tuple[slice, Float[Tensor, "r m"], TileScores],
    best_only: bool,
) -> Standing:
    """The standing of a block of queries; overwrites its scores."""
    rows, scores, tiles = panel
    m = scores.shape[1]
    columns, valid, gains = relevant.listed(rows)
    if columns.shape[1] == 0:
        return Standing(rows, columns, valid, gains)
    lowest = torch.finfo(scores.dtype).min
    upper = torch.where(valid, scores.gather(1, columns).clamp(min=lowest), -torch.inf)
    found = torch.where(valid, ranking.lower(upper, rows, columns).clamp(min=lowest), -torch.inf)
    scores.scatter_(1, columns, -torch.inf)
    if relevant.same_set:
        scores.diagonal(rows.start).fill_(-torch.inf)
    if best_only:
        found = settle(found.amax(dim=1, keepdim=True))  # one NaN makes it the lowest
        valid, gains = valid.any(1, keepdim=True), None
    else:
        found, order = settle(found).sort(dim=1, descending=True, stable=True)
        valid = valid.gather(1, order)
        gains = None if gains is None else gains.gather(1, order)
    if gains is not None:
        found, gains = least_gain_first(found, settle(upper).gather(1, order), gains)
    thresholds = torch.where(found > lowest, found, -torch.inf)
    rivals = m - int(relevant.same_set) - relevant.counts[rows, None]
    ahead = torch.minimum(not_below(scores, thresholds, tiles), rivals)
    place = torch.arange(ahead.shape[1], device=ahead.device)
    return Standing(rows, ahead + place, valid, gains)


def settle(found: Float[Tensor, "r l"]) -> Float[Tensor, "r l"]:
    """NaN as the lowest finite score, below which only unmeant entries lie."""
    return torch.nan_to_num(found, torch.finfo(found.dtype).min, torch.inf, -torch.inf)


def not_below(
    scores: Float[Tensor, "r m"], thresholds: Float[Tensor, "r l"], tiles: TileScores
) -> Int[Tensor, "r l"]:
    """How many of a row are not below each threshold, NaN included; may overwrite the scores."""
    rows, m = scores.shape
    if thresholds.shape[1] <= FEW:
        flags = tiles.buffers.get("flags", Tile(slice(0, rows), slice(0, m)))
        below = [torch.lt(scores, t[:, None], out=flags).sum(1) for t in thresholds.unbind(1)]
        return m - torch.stack(below, 1).long()
    torch.nan_to_num(scores, torch.inf, torch.inf, -torch.inf, out=scores)
    rising, order = thresholds.sort(dim=1)
    reached = torch.searchsorted(rising, scores, right=True)
    exactly = torch.zeros(rows, rising.shape[1] + 1, dtype=torch.long, device=scores.device)
    exactly.scatter_add_(1, reached, torch.ones_like(reached[:, :1]).expand_as(reached))
    at_least = exactly.flip(1).cumsum(1).flip(1)[:, 1:]
    return torch.empty_like(at_least).scatter_(1, order, at_least)


def least_gain_first(
    lower: Float[Tensor, "r l"], upper: Float[Tensor, "r l"], gains: Float[Tensor, "r l"]
) -> tuple[Float[Tensor, "r l"], Float[Tensor, "r l"]]:
    """Tied scores made equal to their lowest, the least relevant put first; lower ends of a row fall.

    Scores tie whose ranges meet. Unmeant entries, at -inf, tie with none.
    """
    reach = upper.flip(1).cummax(dim=1).values.flip(1)  # of an entry and all behind it
    step = torch.zeros_like(lower, dtype=torch.long)
    step[:, 1:] = ~(reach[:, 1:] >= lower[:, :-1]) | lower[:, 1:].isneginf()
    group = step.cumsum(1)
    least = torch.full_like(lower, torch.inf).scatter_reduce_(1, group, lower, "amin")
    by_gain = gains.argsort(dim=1, stable=True)
    by_group = group.gather(1, by_gain).argsort(dim=1, stable=True)
    return least.gather(1, group), gains.gather(1, by_gain.gather(1, by_group))
