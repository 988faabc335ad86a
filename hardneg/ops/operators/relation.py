"""Counts and lists of related pairs as operators."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from hardneg.ops.comparison import Among, Comparison
from hardneg.ops.operators.registration import Operator
from hardneg.ops.tiled.relation import admitted_counts, positive_pairs

__all__ = ["COUNTS", "POSITIVE_PAIRS", "Counting"]


@dataclass(frozen=True)
class Counting:
    """Which pairs are counted."""

    among: Among


def run_counts(comparison: Comparison, counting: Counting) -> tuple[Tensor, Tensor]:
    """See ``DenseScores.counts``."""
    n, m = comparison.queries.shape[0], comparison.candidates.shape[0]
    device = comparison.queries.device
    return admitted_counts(comparison.relation, counting.among, n, m, device)


def count_shapes(comparison: Comparison, counting: Counting) -> tuple[Tensor, Tensor]:
    """A count for each query and each candidate."""
    n, m = comparison.queries.shape[0], comparison.candidates.shape[0]
    counts = comparison.queries.new_empty(n, dtype=torch.long)
    return counts, counts.new_empty(m)


def run_pairs(comparison: Comparison) -> tuple[Tensor, Tensor]:
    """See ``DenseScores.positive_pairs``."""
    n, m = comparison.queries.shape[0], comparison.candidates.shape[0]
    return positive_pairs(comparison.relation, n, m, comparison.queries.device)


def pairs_shapes(comparison: Comparison) -> tuple[Tensor, Tensor]:
    """Two vectors of one length, known only afterwards."""
    length = torch.library.get_ctx().new_dynamic_size()
    like = comparison.queries.new_empty(length, dtype=torch.long)
    return like, torch.empty_like(like)


COUNTS = Operator("admitted_counts", (Comparison, Counting), 2, run_counts, count_shapes)
POSITIVE_PAIRS = Operator("positive_pairs", (Comparison,), 2, run_pairs, pairs_shapes)
