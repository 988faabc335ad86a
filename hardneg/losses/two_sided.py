"""The engine of losses with a log-sum-exp on both sides: over an anchor's positives and over its negatives."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from hardneg.energies import Energy
from hardneg.losses.inputs import check_directions, labelled
from hardneg.losses.mining import pair_rounding, spread
from hardneg.losses.softmax import NOTHING, mean_positive
from hardneg.losses.terms import Direction, Output, check_reduction, finish, in_directions
from hardneg.negatives import Negatives
from hardneg.ops.backends import carried_out
from hardneg.ops.description import OPEN, Comparison, Window
from hardneg.ops.executor import Executor
from hardneg.ops.requests import ExponentialTerms, Search
from hardneg.selection import Selection
from hardneg.similarities import Similarity

if TYPE_CHECKING:
    from jaxtyping import Bool, Float, Int

__all__ = ["two_sided_loss"]

Combine = Callable[[Tensor, Tensor], Tensor]


def two_sided_loss(
    embeddings: Float[Tensor, "n d"],
    labels: Int[Tensor, "n"] | None,
    reference: Float[Tensor, "m d"] | None,
    reference_labels: Int[Tensor, "m"] | None,
    strategy: Negatives,
    energies: tuple[Energy, Energy],
    combine: Combine,
    epsilon: float | None,
    similarity: Similarity | str,
    positive_mask: Bool[Tensor, "n m"] | None,
    ignore: Bool[Tensor, "n m"] | None,
    same_set: bool,
    directions: str,
    reduction: str,
    return_stats: bool,
    backend: str | Executor,
) -> Output:
    """``combine(logsumexp over positives, logsumexp over chosen negatives)`` of every anchor that has both.

    With ``epsilon`` only positives below the hardest negative + epsilon, and negatives above the
    hardest positive - epsilon, take part (``NOTHING`` stands for an empty sum).
    """
    check_reduction(reduction, directions)
    check_directions(directions, reference)
    comparison = labelled(
        embeddings,
        labels,
        reference,
        reference_labels,
        similarity,
        positive_mask,
        ignore,
        same_set,
    )
    executor, comparison = carried_out(backend, comparison)

    def terms_of(compared: Comparison) -> Direction:
        return two_sided_terms(
            executor, compared, strategy, energies, combine, epsilon, statistics=return_stats
        )

    terms = in_directions(comparison, directions, terms_of)
    return finish(executor, comparison, terms, reduction, return_stats=return_stats)


def two_sided_terms(
    executor: Executor,
    comparison: Comparison,
    strategy: Negatives,
    energies: tuple[Energy, Energy],
    combine: Combine,
    epsilon: float | None,
    *,
    statistics: bool,
) -> Direction:
    """The terms of every query."""
    negatives, _ = executor.admitted_counts(comparison, "negatives")
    positives, _ = executor.admitted_counts(comparison, "positives")
    valid = (negatives > 0) & (positives > 0)
    positive, hardest_positive = extreme(executor, comparison, "positives", "lowest")
    negative, hardest_negative = extreme(executor, comparison, "negatives", "highest")
    positive_window = negative_window = OPEN
    if epsilon is not None:
        own = torch.arange(comparison.queries.shape[0], device=positive.device)
        rounding = pair_rounding(executor, comparison, own, negative, hardest_negative)
        positive_window = Window(row_ceiling=rounding.below(hardest_negative + epsilon))
        rounding = pair_rounding(executor, comparison, own, positive, hardest_positive)
        negative_window = Window(row_floor=rounding.above(hardest_positive - epsilon))
    positive_terms = ExponentialTerms(
        energies[0], "positives", window=positive_window, columns=False
    )
    of_positives = executor.logsumexp(comparison, positive_terms).rows
    of_negatives = negative_logsumexp(executor, comparison, strategy, energies[1], negative_window)
    combined = combine(at_least_nothing(of_positives), at_least_nothing(of_negatives))
    values = torch.where(valid, combined, 0.0)
    active = valid.long()
    mean = mean_positive(executor, comparison, positives) if statistics else hardest_positive
    return Direction(values, valid, active, active, mean, hardest_negative)


def at_least_nothing(x: Float[Tensor, "n"]) -> Float[Tensor, "n"]:
    """Log-sum-exps with ``NOTHING`` in place of the -inf of empty sums."""
    return torch.where(x > NOTHING, x, NOTHING)


@torch.no_grad()
def extreme(
    executor: Executor, comparison: Comparison, among: str, order: str
) -> tuple[Int[Tensor, "n"], Float[Tensor, "n"]]:
    """Whose score is the lowest or highest of every query, and that score; -1 and 0 where there is none."""
    own = torch.arange(comparison.queries.shape[0], device=comparison.queries.device)
    found = executor.select(comparison, Search(Selection(order, 1), among, columns=False))
    which = found.rows[:, 0]
    return which, executor.pair_scores(comparison, own, which)


def negative_logsumexp(
    executor: Executor,
    comparison: Comparison,
    strategy: Negatives,
    energy: Energy,
    window: Window,
) -> Float[Tensor, "n"]:
    """Over all negatives in the window, or over the k hardest of them."""
    if strategy.ceiling is not None:
        raise ValueError(f"negatives {strategy!r}: this loss takes no ceiling; use epsilon")
    selection = strategy.selection(comparison.queries.shape[1])
    if selection is not None and selection.fallback != "none":
        raise ValueError(f"negatives {strategy!r}: this loss takes no fallback; use epsilon")
    if selection is None:
        terms = ExponentialTerms(energy, window=window, columns=False)
        return executor.logsumexp(comparison, terms).rows
    own = torch.arange(comparison.queries.shape[0], device=comparison.queries.device)
    found = executor.select(comparison, Search(selection, window=window, columns=False))
    scores = executor.pair_scores(comparison, *spread(own, found.rows)).view(found.rows.shape)
    return torch.where(found.rows >= 0, energy(scores), NOTHING).logsumexp(1)
