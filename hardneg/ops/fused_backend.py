"""The backend of the fused kernels: the tiled operators, told to use a kernel where there is one."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from torch import Tensor

from hardneg.ops.comparison import Comparison
from hardneg.ops.half_precision import with_float32_gradients
from hardneg.ops.requests import Engine, ExponentialTerms, PenaltyTerms, Search
from hardneg.ops.tiled_backend import TiledScores

__all__ = ["MAX_FUSED_K", "Fused", "FusedScores"]

MAX_FUSED_K = 32
"""Largest k of the fused top-k kernel, which keeps the k keys of a row in registers."""


@dataclass(frozen=True)
class Fused:
    """Fused kernels on a CUDA device, for the built-in similarities in float32, float16 and bfloat16.

    Batch-all, negatives selected for each pair, counts and lists of positives have no kernel and run tiled.

    Attributes:
        tile: of what runs tiled; None for the device's default.
        or_tiled: whether other requests without a kernel (more than 32 selected candidates an anchor, penalties of
            your own) run tiled too; else they raise.
    """

    tile: tuple[int, int] | None = None
    or_tiled: bool = False

    def scores(self, comparison: Comparison) -> FusedScores:
        """The scores of a comparison, by kernels."""
        engine = Engine(self.tile or (), fused=True)
        return FusedScores(with_float32_gradients(comparison), engine, self.or_tiled)


class FusedScores(TiledScores):
    """Reductions by fused kernels."""

    def __init__(self, comparison: Comparison, engine: Engine, or_tiled: bool = False) -> None:
        super().__init__(comparison, engine)
        self.or_tiled = or_tiled

    def pairs(self, rows: Tensor, columns: Tensor) -> Tensor:
        """See ``Scores``."""
        engine = self.engine_for(None)
        if engine.fused:
            return super().pairs(rows, columns)
        return TiledScores(self.comparison, engine).pairs(rows, columns)

    def swapped(self) -> FusedScores:
        """See ``Scores``."""
        return FusedScores(self.comparison.swapped(), self.engine, self.or_tiled)

    def engine_for(self, request: Any) -> Engine:
        """A kernel where the request has one, else tiles where that is allowed.

        Raises:
            ValueError: for a request without a kernel, with the reason.
        """
        reason = why_no_kernel(self.comparison.similarity, request)
        if reason is None:
            return replace(self.engine, one_set=is_one_set(self.comparison, request))
        if self.or_tiled:
            return replace(self.engine, fused=False)
        raise ValueError(f'backend "triton" {reason}: use "auto" or "tiled"')


def is_one_set(comparison: Comparison, request: Any) -> bool:
    """Whether one tensor is on both sides, scores and relation are symmetric, and rows alone are asked for."""
    told, similarity = comparison.relation, comparison.similarity
    same_tensor = comparison.queries is comparison.candidates
    if not (same_tensor and told.same_set and similarity == similarity.swapped()):
        return False
    symmetric = told.row_ids is told.column_ids and told.positives is None and told.ignore is None
    match request:
        case Search() | ExponentialTerms():
            by_rows = not request.columns
        case PenaltyTerms():
            by_rows = request.column_thresholds is None
        case _:
            by_rows = False
    return symmetric and by_rows and told.row_offset == told.column_offset


def why_no_kernel(similarity: Any, request: Any = None) -> str | None:
    """Why no kernel computes a request, if none does."""
    if isinstance(request, Search) and request.selection.k > MAX_FUSED_K:
        k = request.selection.k
        return f"selects at most {MAX_FUSED_K} candidates an anchor, but {k} are asked for"
    from hardneg.ops.triton.forms import why_no_form  # Triton is imported with the first kernel

    return why_no_form(similarity, request)
