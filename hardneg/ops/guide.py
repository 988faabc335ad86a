"""``Guide``: what another model says of who is no negative."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor

from hardneg.similarities import unit, upcast

if TYPE_CHECKING:
    from jaxtyping import Bool, Float, Int

__all__ = ["UNGUIDED", "Guide"]

GATHERED = 1 << 20
"""How many coordinates of listed rows are held at a time."""


class Guide(NamedTuple):
    """Embeddings of another model, which say what is no negative: a candidate that scores too high with a query there.

    Scores are cosines. All None: there is no guide.

    Attributes:
        rows, columns: the other model's embeddings of the queries and of the candidates.
        bounds: one a query; a negative's score is below it.
    """

    rows: Float[Tensor, "n g"] | None = None
    columns: Float[Tensor, "m g"] | None = None
    bounds: Float[Tensor, "n"] | None = None

    def of_rows(self, rows: slice) -> Guide:
        """The guide of some consecutive queries."""
        if self.rows is None or self.bounds is None:
            return self
        return Guide(self.rows[rows], self.columns, self.bounds[rows])

    def below(self, rows: slice, columns: slice) -> Bool[Tensor, "r c"]:
        """Which pairs of a block it leaves to be negatives."""
        assert self.rows is not None
        assert self.columns is not None
        assert self.bounds is not None
        with torch.autocast(self.rows.device.type, enabled=False):
            units = (unit(upcast(x)) for x in (self.rows[rows], self.columns[columns]))
            q, c = (x.to(self.bounds.dtype) for x in units)
            return q @ c.T < self.bounds[rows, None]

    def below_listed(self, rows: Int[Tensor, "t"], columns: Int[Tensor, "t"]) -> Bool[Tensor, "t"]:
        """The same of listed pairs."""
        assert self.rows is not None
        assert self.columns is not None
        assert self.bounds is not None
        found = torch.empty(len(rows), dtype=torch.bool, device=rows.device)
        size = max(1, GATHERED // self.rows.shape[1])
        for start in range(0, len(rows), size):
            part = slice(start, start + size)
            row, column = rows[part], columns[part]
            q, c = unit(upcast(self.rows[row])), unit(upcast(self.columns[column]))
            found[part] = (q * c).sum(1).to(self.bounds.dtype) < self.bounds[row]
        return found


UNGUIDED = Guide()
"""No guide."""
