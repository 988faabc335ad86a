"""The engine of the margin losses: phi(margin - positive + negative), for one positive an anchor or all of them."""

from __future__ import annotations

from dataclasses import replace

import torch
from jaxtyping import Float, Int
from torch import Tensor

from hardneg.losses.mining import Picked, mine, mine_per_pair
from hardneg.losses.terms import Direction
from hardneg.negatives import All, Negatives, SelectiveHardest
from hardneg.ops.description import Comparison, Window
from hardneg.ops.executor import Executor
from hardneg.penalties import Penalty

__all__ = ["all_positives", "one_positive"]

NEVER = 1e30
"""A threshold that no score exceeds, for anchors without a positive."""


def picked_terms(
    penalty: Penalty, margin: float, positives: Float[Tensor, "t"], picked: Picked, has: Tensor
) -> Direction:
    """Terms of the picked negatives, summed over those of each pair."""
    x = margin - positives[:, None] + picked.scores
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
) -> tuple[Direction | None, Direction | None]:
    """Query i with candidate ``positive[i]`` (-1: none); the candidates' direction is that of the paired ones."""
    sides = {"queries": queries, "candidates": candidates}
    if isinstance(strategy, All):
        bound = (comparison, positive, strategy, margin, penalty, reduction)
        return every_negative(executor, *bound, **sides)
    selection = strategy.selection(comparison.queries.shape[1])
    assert selection is not None
    options = {**sides, "statistics": statistics}
    mined = mine(executor, comparison, positive, strategy, selection, **options)
    directions = [
        None if picked is None else picked_terms(penalty, margin, mined.positives, picked, has)
        for picked, has in ((mined.queries, positive >= 0), (mined.candidates, positive >= 0))
    ]
    if isinstance(strategy, SelectiveHardest):
        means = every_negative(
            executor, comparison, positive, All(), margin, penalty, "none", **sides
        )
        directions = [
            None if d is None or mean is None else guarded(d, mean, strategy.threshold)
            for d, mean in zip(directions, means, strict=True)
        ]
    return directions[0], directions[1]


def guarded(hardest: Direction, every: Direction, threshold: float) -> Direction:
    """SelHN: the mean over all negatives where the hardest cannot be told from the positive."""
    close = (hardest.positives - hardest.hardest).detach().abs() < threshold
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
) -> tuple[Direction | None, Direction | None]:
    """All negatives: one pass with the gradients where the weight of every anchor is known beforehand."""
    n, m = comparison.queries.shape[0], comparison.candidates.shape[0]
    own = torch.arange(n, device=positive.device)
    p, has = executor.pair_scores(comparison, own, positive), positive >= 0
    thresholds = torch.where(has, p - margin, NEVER)
    further = thresholds.new_full((m - n if candidates else 0,), NEVER)
    of_rows = thresholds if queries else None
    of_columns = torch.cat([thresholds, further]) if candidates else None
    left = executor.admitted_counts(comparison, "negatives")
    counts = left[0], left[1][:n] if candidates else left[0]
    valid = [has & (count > 0) for count in counts]
    if reduction in ("sum", "mean") and strategy.ceiling is None:
        weights = [anchor_weights(v, reduction) for v in valid]
        found = executor.penalty_total(
            comparison,
            penalty,
            of_rows,
            of_columns,
            weights[0] if queries else None,
            torch.cat([weights[1], further * 0]) if candidates else None,
        )
        first, second = found.value, torch.zeros_like(found.value)
        values = (first, second) if queries else (second, first)
        summed = True
    else:
        window = Window()
        if strategy.ceiling is not None:
            ceiling = strategy.ceiling(p.detach())
            padded = torch.cat([ceiling, further]) if candidates else None
            window = Window(row_ceiling=ceiling if queries else None, column_ceiling=padded)
        found = executor.penalty_sum(comparison, penalty, of_rows, of_columns, window=window)
        values, summed = (found.rows, found.columns[:n]), False
    sides = (
        (queries, values[0], valid[0], found.row_counts, counts[0], found.row_maxima),
        (candidates, values[1], valid[1], found.column_counts, counts[1], found.column_maxima),
    )
    directions = []
    for on, value, ok, active, considered, largest in sides:
        if not on:
            directions.append(None)
            continue
        ok = ok & (largest[:n] > -torch.inf)
        hardest = torch.where(ok, largest[:n] + thresholds.detach(), 0.0)
        directions.append(Direction(value, ok, active[:n], considered, p, hardest, summed))
    return directions[0], directions[1]


def anchor_weights(valid: Tensor, reduction: str) -> Float[Tensor, "n"]:
    """1, or 1 / (number of valid anchors); 0 for the others."""
    weights = valid.to(torch.float32)
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
    anchors, positives = executor.positive_pairs(comparison)
    p = executor.pair_scores(comparison, anchors, positives)
    if isinstance(strategy, All):
        options = (comparison, penalty, margin, strategy.ceiling)
        found = executor.positives_penalty(*options, per_pair=True)
        considered = executor.admitted_counts(comparison, "negatives")[0][anchors]
        hardest = found.maxima[anchors]
        return Direction(found.sums, considered > 0, found.counts, considered, p, hardest)
    selection = strategy.selection(comparison.queries.shape[1])
    assert selection is not None
    told = (comparison, anchors, p, strategy, selection, statistics)
    picked = mine_per_pair(executor, *told)
    return picked_terms(penalty, margin, p, picked, torch.ones_like(anchors, dtype=torch.bool))


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
    options = (comparison, penalty, margin, strategy.ceiling)
    found = executor.positives_penalty(*options, total=True)
    negatives, _ = executor.admitted_counts(comparison, "negatives")
    positives, _ = executor.admitted_counts(comparison, "positives")
    valid = (negatives > 0) & (positives > 0)
    pairs = torch.where(valid, positives, 0).sum()
    divisor = {"sum": torch.ones_like(pairs), "mean": pairs, "mean_active": found.counts.sum()}
    value = found.sums / divisor[reduction].clamp(min=1)
    mean = found.positive_sums / positives.clamp(min=1)
    considered = positives * negatives
    return Direction(value, valid, found.counts, considered, mean, found.maxima, summed=True)
