"""The executor of small comparisons: a score matrix no larger than a tile, computed once for all reductions."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import torch

from hardneg.ceilings import Ceiling
from hardneg.ops.description import Comparison
from hardneg.ops.executor import BatchAll
from hardneg.ops.tiled.executor import Tiled
from hardneg.ops.whole_matrix import WholeMatrix
from hardneg.penalties import Penalty

__all__ = ["SingleTile"]


@dataclass(frozen=True, eq=False)
class SingleTile(WholeMatrix):
    """The definitions over scores that one operator computed; made anew for every call of a loss.

    Batch-all stays tiled: by its definition it needs a matrix for every anchor.
    """

    known: list[Comparison] = field(default_factory=list, init=False, repr=False)

    def scored(self, comparison: Comparison) -> Comparison:
        """The comparison with its scores, computed when they are first asked for."""
        for one in self.known:
            for seen in (one, one.swapped()):
                if same_embeddings(seen, comparison):
                    return replace(comparison, scores=seen.scores)
        with torch.enable_grad():
            scores, *_ = torch.ops.hardneg.scores(
                *comparison.embeddings, comparison.similarity.code
            )
        self.known.append(replace(comparison, scores=scores))
        return self.known[-1]

    def positives_penalty(
        self,
        comparison: Comparison,
        penalty: Penalty,
        margin: float,
        ceiling: Ceiling | None = None,
        *,
        total: bool = False,
        per_pair: bool = False,
    ) -> BatchAll:
        """See ``Executor``."""
        return Tiled().positives_penalty(
            comparison, penalty, margin, ceiling, total=total, per_pair=per_pair
        )


def same_embeddings(one: Comparison, other: Comparison) -> bool:
    """Whether the scores of one are those of the other, whoever is related."""
    return (
        one.queries is other.queries
        and one.candidates is other.candidates
        and one.similarity == other.similarity
    )
