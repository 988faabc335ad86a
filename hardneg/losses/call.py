"""``Call``: what the equation of a loss is given."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from hardneg.losses.terms.reduction import Both, Terms
from hardneg.negatives import Negatives, Selection
from hardneg.ops.requests import PairedLoss
from hardneg.ops.scores import Scores
from hardneg.penalties import Penalty

if TYPE_CHECKING:
    from jaxtyping import Int

__all__ = ["Call"]


@dataclass(frozen=True, eq=False, repr=False)
class Call:
    """One call of a loss.

    Attributes:
        scores: of the queries (or embeddings) with the candidates (or the reference).
        negatives: the strategy of this call.
        reduction: how terms become a loss; engines may reduce on the way (``Terms.summed``).
        directions: ``"queries"``, ``"candidates"`` or ``"both"``.
        statistics: whether ``MiningStatistics`` are wanted.
    """

    scores: Scores
    negatives: Negatives
    reduction: str
    directions: str
    statistics: bool

    @property
    def queries(self) -> bool:
        """Whether queries are anchors."""
        return self.directions != "candidates"

    @property
    def candidates(self) -> bool:
        """Whether candidates are anchors."""
        return self.directions != "queries"

    @property
    def selection(self) -> Selection | None:
        """What the strategy asks of ``select``; None where all negatives count."""
        return self.negatives.selection(self.scores.width)

    def paired_loss(
        self,
        margin: float,
        *,
        penalty: Penalty | None = None,
        scale: float | Tensor | None = None,
        average: bool = False,
    ) -> PairedLoss:
        """The whole loss of query i with candidate i, as one request; directions added, or averaged."""
        sides = self.queries, self.candidates
        share = 1 / sum(sides) if average else 1.0
        return PairedLoss(margin, self.negatives, self.reduction, *sides, penalty, scale, share)

    def own_positive(self) -> Int[Tensor, "n"]:
        """Candidate i for query i; -1 where that pair itself is ignored."""
        own, ignore = self.scores.row_numbers(), self.scores.relation.ignore
        return own if ignore is None else torch.where(ignore.diagonal()[: len(own)], -1, own)

    def in_directions(self, terms: Callable[[Call], Terms]) -> Both:
        """``terms`` of the queries as anchors and, with exchanged sides, of the candidates."""
        of_queries = terms(self) if self.queries else None
        swapped = replace(self, scores=self.scores.swapped()) if self.candidates else None
        return of_queries, None if swapped is None else terms(swapped)
