"""The mean over queries of a value of their retrieved lists."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from hardneg.metrics.ranking import make_ranking
from hardneg.metrics.relevance import Relevant
from hardneg.metrics.standings import Standing, standings
from hardneg.metrics.work_share import all_values
from hardneg.similarities import Similarity, resolve_similarity

__all__ = ["Relevance", "Value", "mean_of"]

Value = Any
"""A float, or with ``per_query`` float64 values, one a query."""

Relevance = Tensor | None
"""In place of ids, an n x m matrix, dense or sparse; entries above 0 (True) are relevant."""


def mean_of(
    value: Callable[[Standing, Tensor], Tensor],
    queries: Tensor,
    candidates: Tensor,
    relevant: Relevant,
    similarity: Similarity | str,
    per_query: bool,
) -> Value:
    """The mean of a value of every standing over the queries with a relevant candidate, or the values."""
    order = make_ranking(queries, candidates, resolve_similarity(similarity))
    relevant, device = relevant.to(order.device), order.value_device
    counts = relevant.counts.to(device)
    if not bool((relevant.counts > 0).any()):
        why = "compare the ids of both sides" if relevant.gains is None else "no gain is above 0"
        raise ValueError(f"no query has a relevant candidate: {why}")
    values = all_values(
        torch.zeros(len(queries), dtype=torch.float64, device=device),
        (
            (block.rows, value(block.to(device), counts[block.rows]))
            for block in standings(order, relevant)
        ),
    )
    if per_query:
        return torch.where(counts > 0, values, torch.nan)
    return float(values[counts > 0].mean())
