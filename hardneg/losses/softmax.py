"""The engine of the softmax losses: softplus(logsumexp of the negatives - positive)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from hardneg.checks import check_number
from hardneg.energies import Linear
from hardneg.losses.mining import (
    Picked,
    bound_of,
    mine,
    own_positive,
    under_ceilings,
)
from hardneg.losses.scalars import filled
from hardneg.losses.selected_pairs import selected_pairs
from hardneg.losses.terms import Direction, Terms
from hardneg.negatives import Negatives
from hardneg.ops.description import OPEN, Comparison
from hardneg.ops.executor import Executor
from hardneg.ops.requests import ExponentialTerms, PenaltyTerms
from hardneg.penalties import Identity, Logistic, softplus
from hardneg.similarities import working

if TYPE_CHECKING:
    from jaxtyping import Float, Int

__all__ = ["every_positive", "one_to_one", "picked_logsumexp", "scale_of"]

NOTHING = -1e30
"""The log of no negatives: far below every exponent, yet finite, so that differences stay defined."""


def scale_of(temperature: float | Tensor, like: Tensor) -> Float[Tensor, ""]:
    """1 / temperature as a scalar tensor in the type of the scores.

    Raises:
        ValueError: for a number that is not above 0, or a tensor with more than one element. A tensor
            that is not above 0 makes the loss NaN instead: reading it would synchronise.
    """
    if isinstance(temperature, Tensor):
        if temperature.numel() != 1:
            shape = tuple(temperature.shape)
            raise ValueError(f"temperature has shape {shape}: expected a number or a scalar tensor")
        dtype = torch.float64 if like.dtype == torch.float64 else torch.float32
        value = temperature.to(dtype).reshape(())
        return torch.where(value > 0, 1 / value, torch.nan)
    temperature = check_number("temperature", temperature, above=0)
    return filled((), 1 / temperature, like)


def picked_logsumexp(picked: Picked, scale: Tensor) -> Float[Tensor, "t"]:
    """Log-sum-exp of the picked negatives."""
    z = torch.where(picked.there, picked.scores * scale, NOTHING)
    # torch.logsumexp asks whether there are no rows, which the compiler cannot know of listed pairs
    largest = z.detach().amax(1, keepdim=True)
    return (z - largest).exp().sum(1).log() + largest[:, 0]


def term(
    positives: Tensor, against: Tensor, scale: Tensor, margin: float, valid: Tensor
) -> Float[Tensor, "t"]:
    """softplus(against - scale * (positive - margin)), 0 where invalid."""
    x = against - scale * (positives - margin)
    return softplus(torch.where(valid, x, NOTHING))


def from_logsumexp(
    lse: Tensor, largest: Tensor, counts: Tensor, p: Tensor, scale: Tensor, margin: float
) -> Direction:
    """The direction of anchors whose negatives are summed up already."""
    valid = counts > 0
    values = term(p, torch.where(valid, lse, NOTHING), scale, margin, valid)
    hardest = torch.where(valid, largest, 0.0) / scale.detach()
    return Direction(values, valid, valid.long(), valid.long(), p, hardest)


def from_picked(picked: Picked, p: Tensor, has: Tensor, scale: Tensor, margin: float) -> Direction:
    """The direction of anchors with picked negatives."""
    valid = has & picked.there[:, 0]
    values = term(p, picked_logsumexp(picked, scale), scale, margin, valid)
    return Direction(values, valid, valid.long(), valid.long(), p, picked.hardest)


def one_to_one(
    executor: Executor,
    comparison: Comparison,
    strategy: Negatives,
    scale: Float[Tensor, ""],
    margin: float,
    *,
    queries: bool,
    candidates: bool,
    statistics: bool,
) -> Terms:
    """Query i with candidate i, in both directions."""
    positive = own_positive(comparison)
    selection = strategy.selection(comparison.queries.shape[1])
    if selection is None:
        return against_all(
            executor, comparison, strategy, positive, scale, margin, queries, candidates
        )
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
        return (
            None
            if picked is None
            else from_picked(picked, mined.positives, mined.has, scale, margin)
        )

    return terms_of(mined.queries), terms_of(mined.candidates)


def against_all(
    executor: Executor,
    comparison: Comparison,
    strategy: Negatives,
    positive: Int[Tensor, "n"],
    scale: Float[Tensor, ""],
    margin: float,
    queries: bool,
    candidates: bool,
) -> Terms:
    """These positives against all negatives (below the ceiling, where there is one)."""
    own = torch.arange(comparison.queries.shape[0], device=positive.device)
    p, window = executor.pair_scores(comparison, own, positive), OPEN
    if strategy.ceiling is not None:
        bound = bound_of(executor, comparison, strategy.ceiling, own, positive, p)
        window = under_ceilings(bound, comparison, queries, candidates)
    terms = ExponentialTerms(Linear(), scale=scale, window=window, rows=queries, columns=candidates)
    found = executor.logsumexp(comparison, terms)
    row_counts, column_counts = executor.admitted_counts(comparison, "negatives")

    def terms_of(lse: Tensor, largest: Tensor, counts: Tensor) -> Direction:
        n = p.shape[0]
        remaining = torch.where(positive >= 0, left(counts[:n], lse[:n]), 0)
        return from_logsumexp(lse[:n], largest[:n], remaining, p, scale, margin)

    return (
        terms_of(found.rows, found.row_maxima, row_counts) if queries else None,
        terms_of(found.columns, found.column_maxima, column_counts) if candidates else None,
    )


def against_negatives(scale: Float[Tensor, ""]) -> ExponentialTerms:
    """Every query's negatives, all of them."""
    return ExponentialTerms(Linear(), scale=scale, columns=False)


def left(counts: Int[Tensor, "n"], lse: Float[Tensor, "n"]) -> Int[Tensor, "n"]:
    """Counts, 0 where a window left nothing."""
    return torch.where(lse.detach() == -torch.inf, 0, counts)


def every_positive(
    executor: Executor,
    comparison: Comparison,
    strategy: Negatives,
    scale: Float[Tensor, ""],
    margin: float,
    reduction: str,
    statistics: bool,
) -> Direction:
    """All candidates of a query's id as positives, each against the negatives alone; queries only."""
    if strategy.selection(comparison.queries.shape[1]) is not None:
        return selected_pairs(
            executor, comparison, strategy, None, margin, scale, reduction, statistics
        )
    if strategy.ceiling is not None:
        raise ValueError(
            f"negatives {strategy!r} with several positives an anchor: a softmax over all negatives under a "
            "bound for each pair is not available; use TopK(k, ceiling=...)"
        )
    if reduction == "none":
        return listed_positives(executor, comparison, scale, margin)
    found = executor.logsumexp(comparison, against_negatives(scale))
    negatives, _ = executor.admitted_counts(comparison, "negatives")
    positives, _ = executor.admitted_counts(comparison, "positives")
    valid = (negatives > 0) & (positives > 0)
    against = torch.where(valid, found.rows, NOTHING) + scale * margin
    terms = PenaltyTerms(Logistic(), against, among="positives", sign=-1.0, scale=scale)
    sums = executor.penalty_sum(comparison, terms)
    pairs = torch.where(valid, positives, 0).sum().clamp(min=1)
    total = torch.where(valid, sums.rows, 0.0).sum()
    hardest = torch.where(valid, found.row_maxima, 0.0) / scale.detach()
    value = total if reduction == "sum" else total / pairs
    mean = mean_positive(executor, comparison, positives) if statistics else hardest
    return Direction(value, valid, valid.long(), valid.long(), mean, hardest, summed=True)


@torch.no_grad()
def mean_positive(
    executor: Executor, comparison: Comparison, counts: Int[Tensor, "n"]
) -> Float[Tensor, "n"]:
    """Mean score of each query's positives: a pass of its own, made for statistics only."""
    zero = working(comparison.queries).new_zeros(comparison.queries.shape[0])
    sums = executor.penalty_sum(comparison, PenaltyTerms(Identity(), zero, among="positives"))
    return sums.rows / counts.clamp(min=1)


def listed_positives(
    executor: Executor, comparison: Comparison, scale: Float[Tensor, ""], margin: float
) -> Direction:
    """The same by listed (anchor, positive) pairs, for terms one by one."""
    anchors, positives = executor.positive_pairs(comparison)
    p = executor.pair_scores(comparison, anchors, positives)
    found = executor.logsumexp(comparison, against_negatives(scale))
    counts, _ = executor.admitted_counts(comparison, "negatives")
    return from_logsumexp(
        found.rows.index_select(0, anchors),
        found.row_maxima.index_select(0, anchors),
        counts.index_select(0, anchors),
        p,
        scale,
        margin,
    )
