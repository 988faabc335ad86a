"""What ``AcrossRanks.from_scores`` is given on a rank, and the global order of its candidates."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from hardneg.checks import check_ids, check_mask, check_type
from hardneg.distributed.agreement import IDS, MASKS, WEIGHTS, Given
from hardneg.distributed.layout import Layout, check_partners, check_same_rows
from hardneg.losses.inputs import check_score_matrix
from hardneg.losses.weights import check_weights
from hardneg.positives import AllPositives

__all__ = ["COLUMN_IDS", "GivenScoreRows", "columns_of"]

COLUMN_IDS = ("candidate_ids", "reference_labels")
"""Arguments with a number for each candidate that a rank holds."""


@dataclass(frozen=True, eq=False, repr=False)
class GivenScoreRows(Given):
    """The same of given scores, which stand among the embeddings."""

    @classmethod
    def of(cls, arguments: dict[str, Any]) -> GivenScoreRows:
        """Sorted by name."""
        given = {name: x for name, x in arguments.items() if x is not None or name == "scores"}
        scores, ids, masks, own = (
            {n: given.pop(n) for n in names if n in given}
            for names in (("scores",), IDS.values(), MASKS, (WEIGHTS,))
        )
        return cls(scores, ids, masks, own, (), given)

    @property
    def scores(self) -> Tensor:
        """The scores of this rank's rows."""
        return self.embeddings["scores"]

    def check(self) -> None:
        """What can be told without the other ranks. No rows are not an error."""
        check_score_matrix(self.scores, rows=False)
        n, device = self.scores.shape[0], self.scores.device
        for name, ids in self.ids.items():
            check_type(name, ids, Tensor)
            check_ids(name, ids, len(ids) if name in COLUMN_IDS else n, device)
        for name, mask in self.masks.items():
            check_mask(name, mask, (n, self.scores.shape[1]), device)
        check_weights(self.own.get(WEIGHTS), self.scores, "an anchor")

    def facts(self) -> dict[str, int]:
        """See ``Given``."""
        held = {f"rows of {n}": len(self.ids[n]) for n in COLUMN_IDS if n in self.ids}
        return {**super().facts(), **held}


def columns_of(loss: nn.Module, given: GivenScoreRows, everyone: dict[str, list[int]]) -> Layout:
    """Which candidates every rank tells the ids of; where none does, the rows.

    Raises:
        ValueError: on every rank, where these are not as many as the scores have columns.
    """
    name = next((n for n in COLUMN_IDS if n in given.ids), None)
    rows = tuple(everyone["rows of scores"])
    if name is None:
        return Layout(rows, rows)
    lengths = tuple(everyone[f"rows of {name}"])
    if sum(lengths) != given.scores.shape[1]:
        raise ValueError(
            f"{name} has {sum(lengths)} entries on all ranks together, {list(lengths)} by rank, but scores have "
            f"{given.scores.shape[1]} columns: each rank passes the ids of its own candidates"
        )
    heads = lengths
    if name == "reference_labels" and given.options.get("same_set"):
        check_same_rows(rows, lengths)
        heads = rows
    if name == "candidate_ids" and not isinstance(getattr(loss, "positives", None), AllPositives):
        check_partners(rows, lengths)
        heads = rows
    return Layout(lengths, heads)
