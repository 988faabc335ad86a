"""The backend of the fused kernels: the tiled operators, told to use a kernel where there is one."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from hardneg.ops.comparison import Comparison
from hardneg.ops.operators import Engine
from hardneg.ops.operators.schema import is_named
from hardneg.ops.requests import Search
from hardneg.ops.tiled.backend import TiledScores

__all__ = ["MAX_FUSED_K", "Fused", "FusedScores"]

MAX_FUSED_K = 32
"""Largest k of the fused top-k kernel, which keeps the k keys of a row in registers."""


@dataclass(frozen=True)
class Fused:
    """Fused kernels on a CUDA device, for the built-in similarities in float32, float16 and bfloat16.

    Batch-all, selections under a ceiling for each pair, counts and lists of positives have no kernel and run tiled.

    Attributes:
        tile: of what runs tiled; None for the device's default.
        or_tiled: whether other requests without a kernel (more than 32 selected candidates an anchor, penalties of
            your own) run tiled too; else they raise.
    """

    tile: tuple[int, int] | None = None
    or_tiled: bool = False

    def scores(self, comparison: Comparison) -> FusedScores:
        """The scores of a comparison, by kernels."""
        return FusedScores(comparison, Engine(self.tile or (), fused=True), self.or_tiled)


class FusedScores(TiledScores):
    """Reductions by fused kernels."""

    def __init__(self, comparison: Comparison, engine: Engine, or_tiled: bool = False) -> None:
        super().__init__(comparison, engine)
        self.or_tiled = or_tiled

    def swapped(self) -> FusedScores:
        """See ``Scores``."""
        return FusedScores(self.comparison.swapped(), self.engine, self.or_tiled)

    def engine_for(self, request: Any) -> Engine:
        """A kernel where the request has one, else tiles where that is allowed.

        Raises:
            ValueError: for a request without a kernel, with the reason.
        """
        reason = why_no_kernel(request)
        if reason is None:
            return self.engine
        if self.or_tiled:
            return replace(self.engine, fused=False)
        raise ValueError(f'backend "triton" {reason}: use "auto" or "tiled"')


def why_no_kernel(request: Any) -> str | None:
    """Why no kernel computes a request, if none does."""
    if isinstance(request, Search) and request.selection.k > MAX_FUSED_K:
        k = request.selection.k
        return f"selects at most {MAX_FUSED_K} candidates an anchor, but {k} are asked for"
    if not is_named(request):
        return f"has kernels for the built-in penalties and energies only, not for {request}"
    return None
