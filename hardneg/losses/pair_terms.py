"""The engine of the pair losses: every pair is a term, phi(t - score) of positives, phi(score - t) of negatives."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from hardneg.losses.mining import own_positive, seed_for, spread
from hardneg.losses.scalars import filled
from hardneg.losses.softmax import mean_positive
from hardneg.losses.terms import Direction, Output, finish, in_directions
from hardneg.negatives import Negatives
from hardneg.ops.backends import carried_out
from hardneg.ops.description import Comparison
from hardneg.ops.executor import Executor
from hardneg.ops.requests import PenaltyTerms, Search
from hardneg.penalties import Penalty
from hardneg.selection import Selection
from hardneg.similarities import working

if TYPE_CHECKING:
    from jaxtyping import Float, Int

__all__ = ["as_vector", "negative_part", "pair_loss", "positive_part"]


@dataclass(frozen=True, eq=False, repr=False)
class Part:
    """The positive or the negative terms of every query.

    Attributes:
        sums: their sum by query, or over all queries (0-d) where ``total`` was asked for.
        pairs: how many terms every query has.
        active: how many of them are above 0.
        scores: mean score of the positives, or the highest of the negatives, for statistics.
    """

    sums: Float[Tensor, "..."]
    pairs: Int[Tensor, "n"]
    active: Int[Tensor, "n"]
    scores: Float[Tensor, "n"]


def penalised(
    executor: Executor,
    comparison: Comparison,
    terms: PenaltyTerms,
    total: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    """Sums or total, counts and largest arguments of terms of the queries."""
    if total:
        assert terms.row_thresholds is not None
        ones = torch.ones_like(terms.row_thresholds).detach()
        found = executor.penalty_total(comparison, terms, ones)
        return found.value, found.row_counts, found.row_maxima
    sums = executor.penalty_sum(comparison, terms)
    return sums.rows, sums.row_counts, sums.row_maxima


def positive_part(
    executor: Executor,
    comparison: Comparison,
    penalty: Penalty,
    thresholds: Float[Tensor, "n"],
    total: bool,
    statistics: bool,
    scale: Tensor | None = None,
) -> Part:
    """``phi(threshold - scale * score)`` of every positive pair."""
    if comparison.relation.paired:
        own = torch.arange(comparison.queries.shape[0], device=comparison.queries.device)
        positive = own_positive(comparison)
        p, has = executor.pair_scores(comparison, own, positive), positive >= 0
        x = thresholds - (p if scale is None else p * scale)
        values = torch.where(has, penalty.value(x), 0.0)
        active = (values.detach() > 0).long()
        return Part(values.sum() if total else values, has.long(), active, p.detach())
    terms = PenaltyTerms(penalty, thresholds, among="positives", sign=-1.0, scale=scale)
    sums, counts, largest = penalised(executor, comparison, terms, total)
    pairs, _ = executor.admitted_counts(comparison, "positives")
    mean = mean_positive(executor, comparison, pairs) if statistics else torch.zeros_like(largest)
    return Part(sums, pairs, counts, mean)


def negative_part(
    executor: Executor,
    comparison: Comparison,
    strategy: Negatives,
    penalty: Penalty,
    thresholds: Float[Tensor, "n"],
    total: bool,
    scale: Tensor | None = None,
) -> Part:
    """``phi(scale * score - threshold)`` of every chosen negative pair."""
    selection = strategy.selection(comparison.queries.shape[1])
    if strategy.ceiling is not None:
        raise ValueError(
            f"negatives {strategy!r}: pair losses have no positive of an anchor that a ceiling could relate to"
        )
    if selection is None:
        terms = PenaltyTerms(penalty, thresholds, scale=scale)
        sums, counts, largest = penalised(executor, comparison, terms, total)
        pairs, _ = executor.admitted_counts(comparison, "negatives")
        highest = thresholds.detach() + largest
        highest = highest if scale is None else highest / scale.detach()
        return Part(sums, pairs, counts, torch.where(pairs > 0, highest, 0.0))
    return selected_part(executor, comparison, selection, penalty, thresholds, total, scale)


def selected_part(
    executor: Executor,
    comparison: Comparison,
    selection: Selection,
    penalty: Penalty,
    thresholds: Float[Tensor, "n"],
    total: bool,
    scale: Tensor | None,
) -> Part:
    """The same of the negatives that a strategy selects."""
    own = torch.arange(comparison.queries.shape[0], device=comparison.queries.device)
    seed = seed_for(selection, comparison)
    search = Search(selection, seed=seed, columns=False, hardest=True)
    found = executor.select(comparison, search)
    scores = executor.pair_scores(comparison, *spread(own, found.rows)).view(found.rows.shape)
    there = found.rows >= 0
    x = (scores if scale is None else scores * scale) - thresholds[:, None]
    values = torch.where(there, penalty.value(x), 0.0)
    with torch.no_grad():
        highest = executor.pair_scores(comparison, own, found.hardest_rows[:, 0])
    sums = values.sum() if total else values.sum(1)
    return Part(sums, there.sum(1), (values.detach() > 0).sum(1), highest)


def combine(positive: Part, negative: Part, reduction: str) -> Float[Tensor, "..."]:
    """Both kinds under one reduction: each mean is over its own pairs, or its own active ones."""
    parts = []
    for part in (positive, negative):
        if reduction == "mean":
            parts.append(part.sums / part.pairs.sum().clamp(min=1))
        elif reduction == "mean_active":
            parts.append(part.sums / part.active.sum().clamp(min=1))
        else:
            parts.append(part.sums)
    return parts[0] + parts[1]


def as_vector(argument: str, value: float | Tensor, comparison: Comparison) -> Float[Tensor, "n"]:
    """A number, a scalar tensor or a vector as one threshold a query.

    Raises:
        ValueError: for a tensor of another length.
    """
    q = working(comparison.queries)
    if isinstance(value, Tensor):
        if value.numel() != 1 and value.shape != (q.shape[0],):
            raise ValueError(
                f"{argument} has shape {tuple(value.shape)}: expected a number, a scalar tensor or "
                f"({q.shape[0]},), one value an anchor"
            )
        return value.to(q.dtype).reshape(-1).expand(q.shape[0])
    return filled((q.shape[0],), value, q)


def pair_loss(
    comparison: Comparison,
    argument: str,
    positive_threshold: float | Tensor,
    negative_threshold: float | Tensor,
    strategy: Negatives,
    penalty: Penalty,
    directions: str,
    reduction: str,
    return_stats: bool,
    backend: str | Executor,
) -> Output:
    """phi(positive_threshold - s) over positive pairs plus phi(s - negative_threshold) over negative ones.

    ``argument`` names for messages what the thresholds come from.
    """
    executor, comparison = carried_out(backend, comparison)

    def terms_of(compared: Comparison) -> Direction:
        total = reduction != "none"
        below, above = (
            as_vector(argument, positive_threshold, compared),
            as_vector(argument, negative_threshold, compared),
        )
        positive = positive_part(executor, compared, penalty, below, total, return_stats)
        negative = negative_part(executor, compared, strategy, penalty, above, total)
        return Direction(
            combine(positive, negative, reduction),
            (positive.pairs > 0) & (negative.pairs > 0),
            positive.active + negative.active,
            positive.pairs + negative.pairs,
            positive.scores,
            negative.scores,
            summed=True,
        )

    terms = in_directions(comparison, directions, terms_of)
    return finish(executor, comparison, terms, reduction, return_stats=return_stats)
