"""The negatives of a call in the form that ``hardneg.mining.false_negatives`` reads."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from hardneg.diagnostics.call import LossCall, positives_of
from hardneg.losses.mined import MinedTerms
from hardneg.mining import MinedBlock
from hardneg.negatives import TopK
from hardneg.ops.backends import bind
from hardneg.ops.scores import Scores

__all__ = ["HardestOfCall"]

OWN = ("own_negatives", "own_negative_ids", "own_ignore_mask", "share_negatives")
"""Arguments left out: own negatives are no rows of the batch."""


class HardestOfCall:
    """The k hardest negatives of every anchor of a call, whatever its strategy and ceiling, with its best positive.

    Anchors are the queries, or the candidates of a loss with ``directions="candidates"``.

    Attributes:
        manifest: as of ``MinedRows``: numbers of anchors and of the rows they meet.
        ids: of both, where the call has them.
    """

    @torch.no_grad()
    def __init__(self, call: LossCall, k: int) -> None:
        given = {
            name: x
            for name, x in call.given.items()
            if name not in (*OWN, "guide", "guide_ceiling")
        }
        alone = replace(call, given=given)
        mined = alone.mined(TopK(k))
        scores = bind(call.loss.backend, alone.comparison())
        if mined.queries is None:
            scores = scores.swapped()
        found = mined.candidates if mined.queries is None else mined.queries
        assert found is not None
        self.block = block_of(found, *best_positives(scores, found))
        self.manifest: dict[str, Any] = {"ceiling": None, "shape": scores.shape}
        relation = scores.relation
        self.ids = tuple(names_of(x) for x in (relation.row_ids, relation.column_ids))

    def blocks(self) -> Iterator[MinedBlock]:
        """The one block of a batch."""
        yield self.block


def best_positives(scores: Scores, found: MinedTerms) -> tuple[Tensor, Tensor]:
    """The highest-scoring positive of every anchor, and its score; -1 for none."""
    index = positives_of(scores, found, "highest")[:, 0]
    return index, scores.pairs(found.anchors, index)


def block_of(found: MinedTerms, positive: Tensor, score: Tensor) -> MinedBlock:
    """The lists of all anchors, on the CPU."""
    there = positive >= 0
    offsets = torch.cat([there.new_zeros(1, dtype=torch.long), there.long().cumsum(0)])
    lists = found.indices, found.scores, found.counts, offsets, positive[there], score[there]
    return MinedBlock(0, *(x.cpu() for x in lists))


def names_of(ids: Tensor | None) -> list[str] | None:
    """What stands for the rows of a batch: the ids of their samples."""
    return None if ids is None else [f"id {x}" for x in ids.tolist()]
