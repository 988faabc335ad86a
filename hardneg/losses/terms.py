"""From terms to a loss: directions, reductions, the finiteness factor and the statistics."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from hardneg.checks import check_choice
from hardneg.mining_statistics import MiningStatistics, is_collapsed
from hardneg.ops.description import Comparison
from hardneg.ops.executor import Executor
from hardneg.similarities import working

if TYPE_CHECKING:
    from jaxtyping import Bool, Float, Int

__all__ = [
    "DIRECTIONS",
    "REDUCTIONS",
    "Direction",
    "Output",
    "Result",
    "Terms",
    "check_reduction",
    "finish",
    "finite_or_nan",
    "in_directions",
    "parted",
]

REDUCTIONS = ("mean", "sum", "mean_active", "none")
DIRECTIONS = ("both", "queries", "candidates")

Result = Tensor | tuple[Tensor, Tensor]
Output = Result | tuple[Result, MiningStatistics]


@dataclass(frozen=True, eq=False, repr=False)
class Direction:
    """The terms of one direction, one an (anchor, positive) pair.

    Attributes:
        values: the terms, or their total where they were summed on the way (0-d).
        valid: which of them have both a positive and a negative.
        active: how many of each term's negatives gave a value above 0.
        considered: how many negatives each term had.
        positives: score of each pair's positive.
        hardest: highest score among each pair's negatives.
        summed: ``values`` is the finished reduction of this direction.
        pairs: how many valid terms each entry stands for, where more than one, for statistics; ``active``
            and ``considered`` are then sums over them, ``positives`` and ``hardest`` means.
    """

    values: Float[Tensor, "t"]
    valid: Bool[Tensor, "t"]
    active: Int[Tensor, "t"]
    considered: Int[Tensor, "t"]
    positives: Float[Tensor, "t"]
    hardest: Float[Tensor, "t"]
    summed: bool = False
    pairs: Int[Tensor, "t"] | None = None

    @property
    def valid_terms(self) -> Int[Tensor, "t"]:
        """How many valid terms each entry stands for."""
        return self.valid.long() if self.pairs is None else self.pairs

    def reduce(self, reduction: str) -> Float[Tensor, "..."]:
        """The sum, the mean over valid terms, the mean over active ones, or the terms themselves."""
        if self.summed:
            return self.values
        values = torch.where(self.valid, self.values, 0.0)
        if reduction == "none":
            return values
        if reduction == "sum":
            return values.sum()
        counts = self.valid if reduction == "mean" else torch.where(self.valid, self.active, 0)
        return values.sum() / counts.sum().clamp(min=1)


Terms = tuple[Direction | None, Direction | None]
"""Of the queries and of the candidates; None for a direction not asked for."""


def in_directions(
    comparison: Comparison, directions: str, terms: Callable[[Comparison], Direction]
) -> Terms:
    """``terms`` of the queries, and of the candidates by exchanging the sides."""
    of_queries = None if directions == "candidates" else terms(comparison)
    of_candidates = None if directions == "queries" else terms(comparison.swapped())
    return of_queries, of_candidates


def finite_or_nan(comparison: Comparison) -> Float[Tensor, ""]:
    """1, or NaN where any embedding is NaN or infinite, whatever a max or a comparison would hide.

    A factor rather than a term, so that the gradient is NaN too and a loss scaler notices.
    """
    sides = comparison.queries, comparison.candidates
    extremes = torch.stack([edge for x in sides for edge in torch.aminmax(x.detach())])
    return (working(extremes) * 0).sum() + 1


def finish(
    executor: Executor,
    comparison: Comparison,
    terms: Terms,
    reduction: str,
    *,
    average: bool = False,
    return_stats: bool = False,
) -> Output:
    """The loss: directions added, or averaged, then marked NaN where the inputs are not finite."""
    factor = finite_or_nan(comparison)
    directions = [d for d in terms if d is not None]
    parts = [d.reduce(reduction) * factor for d in directions]
    value: Result
    if reduction == "none":
        none = parts[0].new_zeros(0)
        value = (
            parts[0] if terms[0] is not None else none,
            parts[-1] if terms[1] is not None else none,
        )
    else:
        value = torch.stack(parts).sum() / (len(parts) if average else 1)
    if not return_stats:
        return value
    return value, statistics(comparison, directions, masked_pairs(executor, comparison))


@torch.no_grad()
def statistics(
    comparison: Comparison, directions: list[Direction], masked: Int[Tensor, ""]
) -> MiningStatistics:
    """The statistics over both directions."""
    valid = torch.cat([d.valid for d in directions])
    active = torch.cat([d.active for d in directions])
    considered = torch.cat([d.considered for d in directions])
    positives = torch.cat([d.positives for d in directions]).detach()
    hardest = torch.cat([d.hardest for d in directions]).detach()
    each = torch.cat([d.valid_terms for d in directions])
    terms = each.sum().clamp(min=1)
    positive_mean = torch.where(valid, positives * each, 0.0).sum() / terms
    hardest_mean = torch.where(valid, hardest * each, 0.0).sum() / terms
    total = torch.where(valid, considered, 0).sum()
    return MiningStatistics(
        torch.where(valid, active, 0).sum() / total.clamp(min=1),
        positive_mean,
        hardest_mean,
        positive_mean - hardest_mean,
        masked,
        is_collapsed(comparison.queries, comparison.candidates),
    )


def parted(output: Output) -> tuple[Result, MiningStatistics | None]:
    """A loss's value, and its statistics where it returned them."""
    if isinstance(output, tuple) and isinstance(output[1], MiningStatistics):
        return output[0], output[1]
    return output, None


def check_reduction(reduction: str, directions: str) -> None:
    """Names of a reduction and of directions."""
    check_choice("reduction", reduction, REDUCTIONS)
    check_choice("directions", directions, DIRECTIONS)


@torch.no_grad()
def masked_pairs(executor: Executor, comparison: Comparison) -> Int[Tensor, ""]:
    """Pairs that are neither a negative nor one's own positive nor a row beside itself."""
    n, m = comparison.queries.shape[0], comparison.candidates.shape[0]
    negatives, _ = executor.admitted_counts(comparison, "negatives")
    left = n * m - negatives.sum()
    if comparison.relation.paired:
        ignore = comparison.relation.ignore
        return left - (n if ignore is None else (~ignore.diagonal()[:n]).sum())
    positives, _ = executor.admitted_counts(comparison, "positives")
    return left - positives.sum() - (n if comparison.relation.same_set else 0)
