"""From terms to a loss: directions, reductions, the finiteness factor and the statistics."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from hardneg.losses.mining_statistics import MiningStatistics, is_collapsed
from hardneg.ops.scores import Scores

if TYPE_CHECKING:
    from jaxtyping import Bool, Float, Int

    from hardneg.losses.call import Call
    from hardneg.losses.terms.pairs import PairTerms

__all__ = ["DIRECTIONS", "REDUCTIONS", "Both", "Output", "Result", "Terms", "reduce_terms"]

REDUCTIONS = ("mean", "sum", "mean_active", "none")
DIRECTIONS = ("both", "queries", "candidates")

Result = Tensor | tuple[Tensor, Tensor]
Output = Result | tuple[Result, MiningStatistics]


@dataclass(frozen=True, eq=False, repr=False)
class Terms:
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
        anchors: whose terms they are, where not one an anchor, in order.
        counted: how many terms of a mean each entry stands for, where other than ``valid_terms``.
        kinds: the positive and the negative terms, where each kind has a mean of its own.
    """

    values: Float[Tensor, "t"]
    valid: Bool[Tensor, "t"]
    active: Int[Tensor, "t"]
    considered: Int[Tensor, "t"]
    positives: Float[Tensor, "t"]
    hardest: Float[Tensor, "t"]
    summed: bool = False
    pairs: Int[Tensor, "t"] | None = None
    anchors: Int[Tensor, "t"] | None = None
    counted: Int[Tensor, "t"] | Bool[Tensor, "t"] | None = None
    kinds: tuple[PairTerms, ...] = ()

    @property
    def valid_terms(self) -> Int[Tensor, "t"]:
        """How many valid terms each entry stands for."""
        return self.valid.long() if self.pairs is None else self.pairs

    def reduce(self, reduction: str) -> Float[Tensor, "..."]:
        """The sum, a mean over valid terms, over triplets or over active ones, or the terms themselves."""
        if self.summed:
            return self.values
        values = torch.where(self.valid, self.values, 0.0)
        if reduction == "none":
            return values
        if reduction == "sum":
            return values.sum()
        counts = self.divisor(self.valid, reduction)
        return values.sum() / torch.where(self.valid, counts, 0).sum().clamp(min=1)

    def divisor(self, terms: Tensor, reduction: str) -> Tensor:
        """What a mean counts: so many terms of each entry, or their active triplets, or all of these."""
        return {"mean_active": self.active, "mean_triplets": self.considered}.get(reduction, terms)

    def weighted(self, weights: Float[Tensor, "n"], reduction: str) -> Terms:
        """The finished reduction of terms that are multiplied by a weight of their anchors.

        A mean divides by the sum of the weights, of terms, of triplets, or of non-zero terms.
        """
        w = weights if self.anchors is None else weights.index_select(0, self.anchors)
        if self.kinds:
            parts = [
                weighted(
                    x.sums,
                    w,
                    x.pairs,
                    x.active if reduction == "mean_active" else x.pairs,
                    reduction,
                )
                for x in self.kinds
            ]
            return replace(self, values=torch.stack(parts).sum(0), summed=True)
        counts = self.valid_terms if self.counted is None else self.counted
        values = weighted(self.values, w, counts, self.divisor(counts, reduction), reduction)
        return replace(self, values=values, summed=True)


def weighted(
    values: Float[Tensor, "t"],
    weights: Float[Tensor, "t"],
    counts: Int[Tensor, "t"],
    divisor: Int[Tensor, "t"],
    reduction: str,
) -> Float[Tensor, "..."]:
    """The reduction of entries that stand for so many terms each; a mean divides by the weighted ``divisor``."""
    w = torch.where(counts > 0, weights, 0.0)
    values = torch.where(w != 0, values, 0.0) * w
    if reduction == "none":
        return values
    if reduction == "sum":
        return values.sum()
    total = (w * divisor).sum()
    return values.sum() / torch.where(total == 0, 1.0, total)


Both = tuple[Terms | None, Terms | None]
"""Terms of the queries and of the candidates; None for a direction not asked for."""


def reduce_terms(call: Call, both: Both, average: bool) -> Output:
    """The loss: directions added, or averaged, then marked NaN where the inputs are not finite."""
    factor = call.scores.finite()
    directions = [terms for terms in both if terms is not None]
    parts = [terms.reduce(call.reduction) * factor for terms in directions]
    value: Result
    if call.reduction == "none":
        none = parts[0].new_zeros(0)
        value = (
            parts[0] if both[0] is not None else none,
            parts[-1] if both[1] is not None else none,
        )
    else:
        value = torch.stack(parts).sum() / (len(parts) if average else 1)
    return (value, statistics(call.scores, directions, factor)) if call.statistics else value


@torch.no_grad()
def statistics(
    scores: Scores, directions: list[Terms], finite: Float[Tensor, ""]
) -> MiningStatistics:
    """The statistics over both directions; those of scores are NaN where ``finite`` is."""
    valid = torch.cat([terms.valid for terms in directions])
    active = torch.cat([terms.active for terms in directions])
    considered = torch.cat([terms.considered for terms in directions])
    positives = torch.cat([terms.positives for terms in directions]).detach()
    hardest = torch.cat([terms.hardest for terms in directions]).detach()
    each = torch.cat([terms.valid_terms for terms in directions])
    count = each.sum().clamp(min=1)
    positive_mean = finite * torch.where(valid, positives * each, 0.0).sum() / count
    hardest_mean = finite * torch.where(valid, hardest * each, 0.0).sum() / count
    total = torch.where(valid, considered, 0).sum()
    return MiningStatistics(
        finite * (torch.where(valid, active, 0).sum() / total.clamp(min=1)),
        positive_mean,
        hardest_mean,
        positive_mean - hardest_mean,
        masked_pairs(scores),
        is_collapsed(scores.comparison.queries, scores.comparison.candidates),
    )


def masked_pairs(scores: Scores) -> Int[Tensor, ""]:
    """Pairs that are neither a negative nor one's own positive nor a row beside itself."""
    n, relation = scores.shape[0], scores.relation
    left = scores.size - scores.counts("negatives")[0].sum()
    if relation.paired:
        ignore = relation.ignore
        return left - (n if ignore is None else (~ignore.diagonal()[:n]).sum())
    return left - scores.counts("positives")[0].sum() - (n if relation.same_set else 0)
