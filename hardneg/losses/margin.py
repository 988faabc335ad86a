"""The engine of the margin losses: phi(margin - positive + negative), for one positive an anchor or all of them."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from hardneg.losses.mining import (
    Picked,
    bound_of,
    mine,
    padded,
    pair_rounding,
    under_ceilings,
)
from hardneg.losses.selected_pairs import selected_pairs
from hardneg.losses.terms import Direction, Terms
from hardneg.negatives import All, Negatives, SelectiveHardest
from hardneg.ops.description import OPEN, Comparison
from hardneg.ops.executor import Executor, Sums, Total
from hardneg.ops.requests import PenaltyTerms
from hardneg.ops.rounding import Rounding
from hardneg.penalties import Penalty

if TYPE_CHECKING:
    from jaxtyping import Float, Int

__all__ = ["all_positives", "one_positive"]

NEVER = 1e30
"""A threshold that no score exceeds, for anchors without a positive."""


def picked_terms(
    penalty: Penalty, margin: float, positives: Float[Tensor, "t"], picked: Picked, has: Tensor
) -> Direction:
    """Terms of the picked negatives, summed over those of each pair."""
    # in this order the compiler needs no new graph for another margin
    x = picked.scores - (positives[:, None] - margin)
    values = torch.where(picked.there, penalty.value(x), 0.0)
    valid = has & picked.there[:, 0]
    active = (values.detach() > 0).sum(1)
    considered = picked.there.sum(1)
    return Direction(values.sum(1), valid, active, considered, positives, picked.hardest)


def one_positive(
    executor: Executor,
    comparison: Comparison,
    positive: Int[Tensor, "n"],
    strategy: Negatives,
    margin: float,
    penalty: Penalty,
    reduction: str,
    *,
    queries: bool = True,
    candidates: bool = False,
    statistics: bool = False,
) -> Terms:
    """Query i with candidate ``positive[i]`` (-1: none); the candidates' direction is that of the paired ones."""
    if isinstance(strategy, All):
        return every_negative(
            executor,
            comparison,
            positive,
            strategy,
            margin,
            penalty,
            reduction,
            queries=queries,
            candidates=candidates,
        )
    selection = strategy.selection(comparison.queries.shape[1])
    assert selection is not None
    mined = mine(
        executor,
        comparison,
        positive,
        strategy,
        selection,
        queries=queries,
        candidates=candidates,
        statistics=statistics,
    )

    def terms_of(picked: Picked | None) -> Direction | None:
        if picked is None:
            return None
        return picked_terms(penalty, margin, mined.positives, picked, positive >= 0)

    terms = terms_of(mined.queries), terms_of(mined.candidates)
    if isinstance(strategy, SelectiveHardest):
        means = every_negative(
            executor,
            comparison,
            positive,
            All(),
            margin,
            penalty,
            "none",
            queries=queries,
            candidates=candidates,
        )
        own = torch.arange(comparison.queries.shape[0], device=positive.device)
        rounding = pair_rounding(executor, comparison, own, positive, mined.positives)
        return (
            guarded(terms[0], means[0], strategy.threshold, rounding),
            guarded(terms[1], means[1], strategy.threshold, rounding),
        )
    return terms


def guarded(
    hardest: Direction | None, every: Direction | None, threshold: float, rounding: Rounding
) -> Direction | None:
    """SelHN: the mean over all negatives where the hardest cannot be told from the positive."""
    if hardest is None or every is None:
        return None
    p, highest = hardest.positives.detach(), hardest.hardest.detach()
    close = (highest > rounding.above(p - threshold)) & (highest < rounding.below(p + threshold))
    mean = every.values / every.considered.clamp(min=1)
    return replace(
        hardest,
        values=torch.where(close, mean, hardest.values),
        active=torch.where(close, every.active, hardest.active),
        considered=torch.where(close, every.considered, hardest.considered),
    )


def every_negative(
    executor: Executor,
    comparison: Comparison,
    positive: Int[Tensor, "n"],
    strategy: All,
    margin: float,
    penalty: Penalty,
    reduction: str,
    *,
    queries: bool,
    candidates: bool,
) -> Terms:
    """All negatives: one pass with the gradients where the weight of every anchor is known beforehand."""
    n = comparison.queries.shape[0]
    own = torch.arange(n, device=positive.device)
    p, has = executor.pair_scores(comparison, own, positive), positive >= 0
    thresholds = torch.where(has, p - margin, NEVER)
    of_rows = thresholds if queries else None
    of_columns = padded(thresholds, comparison, NEVER) if candidates else None
    row_counts, column_counts = executor.admitted_counts(comparison, "negatives")
    negatives = row_counts, column_counts[:n] if candidates else row_counts
    valid = has & (negatives[0] > 0), has & (negatives[1] > 0)
    found: Sums | Total
    if reduction in ("sum", "mean") and strategy.ceiling is None:
        weights = [anchor_weights(v, reduction, p) for v in valid]
        found = executor.penalty_total(
            comparison,
            PenaltyTerms(penalty, of_rows, of_columns),
            weights[0] if queries else None,
            padded(weights[1], comparison, 0.0) if candidates else None,
        )
        # the total of both directions stands in the first one asked for
        values = found.value, torch.zeros_like(found.value) if queries else found.value
    else:
        window = OPEN
        if strategy.ceiling is not None:
            bound = bound_of(executor, comparison, strategy.ceiling, own, positive, p)
            window = under_ceilings(bound, comparison, queries, candidates)
        terms = PenaltyTerms(penalty, of_rows, of_columns, window=window)
        found = executor.penalty_sum(comparison, terms)
        values = found.rows, found.columns[:n]

    def terms_of(side: int, active: Tensor, maxima: Tensor) -> Direction:
        largest, summed = maxima[:n], isinstance(found, Total)
        reached = valid[side] & (largest > -torch.inf)
        hardest = torch.where(reached, largest + thresholds.detach(), 0.0)
        return Direction(values[side], reached, active[:n], negatives[side], p, hardest, summed)

    return (
        terms_of(0, found.row_counts, found.row_maxima) if queries else None,
        terms_of(1, found.column_counts, found.column_maxima) if candidates else None,
    )


def anchor_weights(valid: Tensor, reduction: str, like: Tensor) -> Float[Tensor, "n"]:
    """1, or 1 / (number of valid anchors); 0 for the others. In the type of ``like``, the scores."""
    weights = valid.to(like.dtype)
    return weights if reduction == "sum" else weights / valid.sum().clamp(min=1)


def all_positives(
    executor: Executor,
    comparison: Comparison,
    strategy: Negatives,
    margin: float,
    penalty: Penalty,
    reduction: str,
    *,
    statistics: bool = False,
) -> Direction:
    """Every candidate of a query's label as its positive, each pair a term."""
    if isinstance(strategy, All) and reduction != "none":
        return batch_all(executor, comparison, strategy, margin, penalty, reduction)
    if not isinstance(strategy, All):
        return selected_pairs(
            executor, comparison, strategy, penalty, margin, None, reduction, statistics
        )
    anchors, positives = executor.positive_pairs(comparison)
    p = executor.pair_scores(comparison, anchors, positives)
    found = executor.positives_penalty(comparison, penalty, margin, strategy.ceiling, per_pair=True)
    considered = executor.admitted_counts(comparison, "negatives")[0][anchors]
    hardest = found.maxima[anchors]
    return Direction(found.sums, considered > 0, found.counts, considered, p, hardest)


def batch_all(
    executor: Executor,
    comparison: Comparison,
    strategy: All,
    margin: float,
    penalty: Penalty,
    reduction: str,
) -> Direction:
    """All positives against all negatives: the finished sum or mean, from one pass.

    Statistics are by anchor: each anchor's mean positive stands for its pairs.
    """
    found = executor.positives_penalty(comparison, penalty, margin, strategy.ceiling, total=True)
    negatives, _ = executor.admitted_counts(comparison, "negatives")
    positives, _ = executor.admitted_counts(comparison, "positives")
    valid = found.pairs > 0
    pairs = found.pairs.sum()
    divisor = {"sum": torch.ones_like(pairs), "mean": pairs, "mean_active": found.counts.sum()}
    value = found.sums / divisor[reduction].clamp(min=1)
    mean = found.positive_sums / positives.clamp(min=1)
    considered = positives * negatives
    return Direction(value, valid, found.counts, considered, mean, found.maxima, summed=True)
