"""Every (anchor, positive) pair as a term, over the negatives that a strategy selects."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from hardneg.losses.mining import seed_for
from hardneg.losses.terms import Direction
from hardneg.negatives import Negatives
from hardneg.ops.description import Comparison
from hardneg.ops.executor import Executor
from hardneg.ops.requests import Search, SelectedTerms
from hardneg.penalties import Penalty
from hardneg.selection import Selection

if TYPE_CHECKING:
    from jaxtyping import Float

__all__ = ["selected_pairs"]


def selected_pairs(
    executor: Executor,
    comparison: Comparison,
    strategy: Negatives,
    penalty: Penalty | None,
    margin: float,
    scale: Float[Tensor, ""] | None,
    reduction: str,
    statistics: bool,
) -> Direction:
    """The terms of all queries' positives: finished, except with ``reduction="none"``."""
    selection = strategy.selection(comparison.queries.shape[1])
    assert selection is not None
    seed = seed_for(selection, comparison)
    terms = SelectedTerms(penalty, margin, selection, strategy.ceiling, seed, scale)
    listed = reduction == "none"
    found = executor.selected_penalty(comparison, terms, total=not listed, per_pair=listed)
    hardest = highest_negative(executor, comparison) if statistics else None
    if listed:
        of_pairs = torch.zeros_like(found.positives)
        if hardest is not None:
            of_pairs = hardest.index_select(0, executor.positive_pairs(comparison)[0])
        valid = found.considered > 0
        return Direction(
            found.sums, valid, found.counts, found.considered, found.positives, of_pairs
        )
    value = found.sums
    if reduction != "sum":
        counted = found.pairs if reduction == "mean" else found.counts
        value = value / counted.sum().clamp(min=1)
    mean = found.positives / found.pairs.clamp(min=1)
    return Direction(
        value,
        found.pairs > 0,
        found.counts,
        found.considered,
        mean,
        mean if hardest is None else hardest,
        summed=True,
        pairs=found.pairs,
    )


@torch.no_grad()
def highest_negative(executor: Executor, comparison: Comparison) -> Float[Tensor, "n"]:
    """The highest score of each query's negatives, for statistics."""
    own = torch.arange(comparison.queries.shape[0], device=comparison.queries.device)
    found = executor.select(comparison, Search(Selection("highest", 1), columns=False))
    return executor.pair_scores(comparison, own, found.rows[:, 0])
