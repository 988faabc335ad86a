"""Counts and lists of related pairs as operators."""

from __future__ import annotations

import torch
from torch import Tensor

from hardneg.ops.operators.registration import Compared, operator
from hardneg.ops.tiled.relation import admitted_counts, positive_pairs

__all__ = ["Counts"]


class Counts(Compared):
    """Arguments of ``admitted_counts``."""

    among: str


@operator(
    "admitted_counts",
    Counts,
    2,
    lambda a: (
        a.queries.new_empty(a.queries.shape[0], dtype=torch.long),
        a.queries.new_empty(a.candidates.shape[0], dtype=torch.long),
    ),
)
def run_counts(a: Counts) -> tuple[Tensor, Tensor]:
    """See ``reference.admitted_counts``."""
    n, m = a.queries.shape[0], a.candidates.shape[0]
    return admitted_counts(a.comparison.relation, a.among, n, m, a.queries.device)


def pairs_shapes(a: Compared) -> tuple[Tensor, Tensor]:
    """Two vectors of one length, known only afterwards."""
    length = torch.library.get_ctx().new_dynamic_size()
    like = a.queries.new_empty(length, dtype=torch.long)
    return like, torch.empty_like(like)


@operator("positive_pairs", Compared, 2, pairs_shapes)
def run_pairs(a: Compared) -> tuple[Tensor, Tensor]:
    """See ``reference.positive_pairs``."""
    n, m = a.queries.shape[0], a.candidates.shape[0]
    return positive_pairs(a.comparison.relation, n, m, a.queries.device)
