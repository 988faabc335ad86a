"""Which (anchor, positive) pair each term of ``reduction="none"`` is."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from hardneg.ops.backends import bind
from hardneg.ops.comparison import Comparison
from hardneg.ops.scores import Backend

if TYPE_CHECKING:
    from jaxtyping import Int

__all__ = ["pairs_of_terms"]


def pairs_of_terms(
    comparison: Comparison, directions: str, backend: str | Backend
) -> tuple[Int[Tensor, "t 2"], Int[Tensor, "u 2"]]:
    """Anchors beside their positives, of the queries and of the candidates; empty for a direction not asked for."""
    none = torch.empty(0, 2, dtype=torch.long, device=comparison.queries.device)
    of_queries = of_candidates = none
    if directions != "candidates":
        of_queries = torch.stack(bind(backend, comparison).positive_pairs(), dim=1)
    if directions in ("candidates", "both"):
        of_candidates = torch.stack(bind(backend, comparison.swapped()).positive_pairs(), dim=1)
    return of_queries, of_candidates
