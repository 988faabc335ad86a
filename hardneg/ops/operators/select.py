"""``select`` as operators: by rows and columns, and under a ceiling for each pair."""

from __future__ import annotations

import torch
from torch import Tensor

from hardneg.ops.operators.registration import Compared, Windowed, operator
from hardneg.ops.requests import Search
from hardneg.ops.tiled.select import select
from hardneg.ops.tiled.select_per_pair import select_per_pair
from hardneg.selection import Selection

__all__ = ["PerPair", "Select"]


class Select(Windowed):
    """Arguments of ``select``."""

    seed: Tensor | None
    among: str
    order: str
    k: int
    skip: int
    parameters: list[float]
    fallback: str
    rows: bool
    columns: bool
    hardest: bool

    @property
    def search(self) -> Search:
        """What to look for."""
        selection = Selection(self.order, self.k, self.skip, tuple(self.parameters), self.fallback)
        sides = self.rows, self.columns, self.hardest
        return Search(selection, self.among, self.window, self.seed, *sides)


class PerPair(Compared):
    """Arguments of ``select_per_pair``."""

    anchors: Tensor
    ceilings: Tensor
    seed: Tensor | None
    order: str
    k: int
    skip: int
    parameters: list[float]
    fallback: str

    @property
    def selection(self) -> Selection:
        """What to select."""
        return Selection(self.order, self.k, self.skip, tuple(self.parameters), self.fallback)


def select_shapes(a: Select) -> tuple[Tensor, ...]:
    """One row of indices for each query and each candidate, and the hardest of each."""
    n = a.queries.shape[0] if a.rows else 0
    m = a.candidates.shape[0] if a.columns else 0
    width = a.k - a.skip
    return (
        a.queries.new_empty(n, width, dtype=torch.long),
        a.queries.new_empty(m, width, dtype=torch.long),
        a.queries.new_empty(n if a.hardest else 0, 1, dtype=torch.long),
        a.queries.new_empty(m if a.hardest else 0, 1, dtype=torch.long),
    )


@operator("select", Select, 4, select_shapes)
def run_select(a: Select) -> tuple[Tensor, ...]:
    """See ``reference.select``."""
    if a.fused:
        from hardneg.ops.triton import select as kernels

        return kernels.select(a.comparison, a.search)
    return select(a.comparison, a.search, a.tile_size)


@operator(
    "select_per_pair",
    PerPair,
    1,
    lambda a: a.anchors.new_empty(a.anchors.shape[0], a.k - a.skip),
)
def run_select_per_pair(a: PerPair) -> Tensor:
    """See ``reference.select_per_pair``."""
    return select_per_pair(a.comparison, a.anchors, a.ceilings, a.selection, a.seed)
