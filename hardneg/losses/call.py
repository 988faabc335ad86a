"""``Call``: what the equation of a loss is given."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, TypeVar

from torch import Tensor

from hardneg.negatives import Negatives, Selection
from hardneg.ops.loss_requests import LossRequest
from hardneg.ops.scores import Scores

if TYPE_CHECKING:
    from jaxtyping import Int

__all__ = ["Call"]

Found = TypeVar("Found")
Whole = TypeVar("Whole", bound=LossRequest)


@dataclass(frozen=True, eq=False, repr=False)
class Call:
    """One call of a loss.

    Attributes:
        scores: of the queries (or embeddings) with the candidates (or the reference).
        negatives: the strategy of this call.
        reduction: how terms become a loss; engines may reduce on the way (``Terms.summed``).
        directions: ``"queries"``, ``"candidates"`` or ``"both"``; ``"joint"`` is of the queries.
        statistics: whether ``MiningStatistics`` are wanted.
        by_anchor: under weights, with ``reduction="none"``: the reduction that follows, for which the terms of one
            anchor may be added up; empty otherwise.
    """

    scores: Scores
    negatives: Negatives
    reduction: str
    directions: str
    statistics: bool
    by_anchor: str = ""

    @property
    def queries(self) -> bool:
        """Whether queries are anchors."""
        return self.directions != "candidates"

    @property
    def candidates(self) -> bool:
        """Whether candidates are anchors."""
        return self.directions in ("candidates", "both")

    @property
    def lists_terms(self) -> bool:
        """Whether the terms of an anchor with several positives are wanted one by one."""
        return self.reduction == "none" and not self.by_anchor

    @property
    def counts_triplets(self) -> bool:
        """Whether a mean may divide by the number of triplets."""
        return "mean_triplets" in (self.reduction, self.by_anchor)

    @property
    def selection(self) -> Selection | None:
        """What the strategy asks of ``select``; None where all negatives count."""
        return self.negatives.selection(self.scores.width)

    def whole(self, kind: type[Whole], *, average: bool = False, **terms: Any) -> Whole:
        """The request for a whole loss of this kind; directions added, or averaged."""
        return kind(
            negatives=self.negatives,
            reduction=self.reduction,
            queries=self.queries,
            candidates=self.candidates,
            share=0.5 if average and self.directions == "both" else 1.0,
            **terms,
        )

    def own_positive(self) -> Int[Tensor, "n"]:
        """Candidate i for query i; -1 where that pair itself is ignored."""
        return self.scores.own_positive()

    def in_directions(self, terms: Callable[[Call], Found]) -> tuple[Found | None, Found | None]:
        """``terms`` of the queries as anchors and, with exchanged sides, of the candidates."""
        of_queries = terms(self) if self.queries else None
        swapped = replace(self, scores=self.scores.swapped()) if self.candidates else None
        return of_queries, None if swapped is None else terms(swapped)
