"""The executor of the fused kernels: the tiled operators, told to use a kernel where there is one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from hardneg.ops.description import Comparison
from hardneg.ops.executor import Selected
from hardneg.ops.requests import Search
from hardneg.ops.tiled.executor import Tiled

__all__ = ["MOST", "Fused"]

MOST = 32
"""More places than a kernel keeps in registers."""


@dataclass(frozen=True)
class Fused(Tiled):
    """Fused kernels on a CUDA device, for the closed similarities in float32, float16 and bfloat16.

    ``positives_penalty``, ``selected_penalty``, ``select_per_pair``, ``admitted_counts`` and
    ``positive_pairs`` have no kernel and run tiled.

    Attributes:
        tile: of what runs tiled; None for the device's default.
        wide: who selects more than 32 candidates an anchor; None: that raises.
    """

    engine: ClassVar[str] = "triton"

    wide: Tiled | None = None

    def select(self, comparison: Comparison, search: Search) -> Selected:
        """See ``Executor``."""
        k = search.selection.k
        if k <= MOST:
            return super().select(comparison, search)
        if self.wide is None:
            raise ValueError(
                f'backend "triton" selects at most {MOST} candidates an anchor, but {k} are '
                'asked for: use "auto" or "tiled"'
            )
        return self.wide.select(comparison, search)
