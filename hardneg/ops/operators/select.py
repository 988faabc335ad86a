"""``select`` as operators: by rows and columns, and under a ceiling for each pair."""

from __future__ import annotations

import torch
from torch import Tensor

from hardneg.ops.comparison import Comparison
from hardneg.ops.operators.registration import Operator
from hardneg.ops.requests import Engine, PairSearch, Search
from hardneg.ops.tiled.select import select
from hardneg.ops.tiled.select_per_pair import select_per_pair

__all__ = ["SELECT", "SELECT_PER_PAIR"]


def run(comparison: Comparison, search: Search, engine: Engine) -> tuple[Tensor, ...]:
    """See ``DenseScores.select``."""
    if engine.fused:
        from hardneg.ops.triton import select as kernels

        return kernels.select(comparison, search, engine.one_set)
    return select(comparison, search, engine.tile_size)


def shapes(comparison: Comparison, search: Search, engine: Engine) -> tuple[Tensor, ...]:
    """One row of indices for each query and each candidate, and the hardest of each."""
    n = comparison.queries.shape[0] if search.rows else 0
    m = comparison.candidates.shape[0] if search.columns else 0
    width = search.selection.k - search.selection.skip
    hardest = (n, m) if search.hardest else (0, 0)
    sizes = (n, width), (m, width), (hardest[0], 1), (hardest[1], 1)
    return tuple(comparison.queries.new_empty(size, dtype=torch.long) for size in sizes)


def run_per_pair(comparison: Comparison, search: PairSearch) -> tuple[Tensor]:
    """See ``DenseScores.select_per_pair``."""
    return (select_per_pair(comparison, search),)


def shapes_per_pair(comparison: Comparison, search: PairSearch) -> tuple[Tensor]:
    """One row of indices for each pair."""
    width = search.selection.k - search.selection.skip
    return (search.anchors.new_empty(search.anchors.shape[0], width),)


SELECT = Operator("select", (Comparison, Search, Engine), 4, run, shapes)
SELECT_PER_PAIR = Operator(
    "select_per_pair", (Comparison, PairSearch), 1, run_per_pair, shapes_per_pair
)
