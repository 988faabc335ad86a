"""The negatives that a strategy selects for each anchor: searches, randomness, scores of the selected pairs."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from hardneg.losses.terms.windows import window_of_pairs
from hardneg.negatives import Selection
from hardneg.ops.comparison import OPEN, Window
from hardneg.ops.requests import Search
from hardneg.ops.scores import Scores

if TYPE_CHECKING:
    from jaxtyping import Bool, Float, Int

    from hardneg.losses.call import Call

__all__ = [
    "Mined",
    "chosen_selection",
    "flat_pairs",
    "mine",
    "mined_queries",
    "paired_search",
    "query_search",
    "seed_for",
]


@dataclass(frozen=True, eq=False, repr=False)
class Mined:
    """The selected negatives of one direction's anchors.

    Attributes:
        scores: of the selected pairs, differentiable; 0 where there is none.
        there: which places hold a negative.
        hardest: highest score among all negatives of the anchor where statistics are wanted, else the
            highest of the selected ones.
    """

    scores: Float[Tensor, "t k"]
    there: Bool[Tensor, "t k"]
    hardest: Float[Tensor, "t"]

    @classmethod
    def of(cls, scores: Float[Tensor, "..."], index: Int[Tensor, "n k"]) -> Mined:
        """From the scores of the selected pairs, listed flat."""
        scores = scores.view(index.shape)
        return cls(scores, index >= 0, scores.detach().amax(1))


def seed_for(selection: Selection, scores: Scores) -> Int[Tensor, ""] | None:
    """A seed from torch's generator for this call, where the selection is random."""
    if not selection.random:
        return None
    return torch.randint(2**31 - 1, (), device=scores.device)


def chosen_selection(call: Call) -> Selection:
    """The selection of a strategy that is known to have one."""
    selection = call.selection
    assert selection is not None
    return selection


def paired_search(call: Call, positive: Int[Tensor, "n"], selection: Selection) -> Search:
    """The search for negatives of queries and of candidates, each below the ceiling over the anchor's positive."""
    window = window_of_pairs(call, positive)
    seed = seed_for(selection, call.scores)
    wanted = call.queries, call.candidates, call.statistics
    return Search(selection, "negatives", window, seed, *wanted)


def mine(
    call: Call, positive: Int[Tensor, "n"], selection: Selection
) -> tuple[Float[Tensor, "n"], Mined | None, Mined | None]:
    """Negatives of anchors with one positive each: query i with candidate ``positive[i]``, -1 for none.

    Candidates as anchors are candidates 0 ... n - 1, paired with the queries in order.

    Returns:
        Scores of the positives, and the negatives of queries and of candidates (None where these are no
        anchors).
    """
    scores, own = call.scores, call.scores.row_numbers()
    found = scores.select(paired_search(call, positive, selection))
    of_rows, of_columns = found.rows, found.columns[: len(own)]
    lists = [(own, positive)]
    if call.queries:
        lists.append(flat_pairs(own, of_rows))
    if call.candidates:
        lists.append(flat_pairs(own, of_columns)[::-1])
    p, *others = listed_scores(scores, lists)
    queries = Mined.of(others[0], of_rows) if call.queries else None
    candidates = Mined.of(others[-1], of_columns) if call.candidates else None
    if not call.statistics:
        return p, queries, candidates
    with torch.no_grad():
        if queries is not None:
            queries = replace(queries, hardest=scores.pairs(own, found.hardest_rows[:, 0]))
        if candidates is not None:
            top = found.hardest_columns[: len(own), 0]
            candidates = replace(candidates, hardest=scores.pairs(top, own))
    return p, queries, candidates


def flat_pairs(
    anchors: Int[Tensor, "n"], index: Int[Tensor, "n k"]
) -> tuple[Int[Tensor, "nk"], Int[Tensor, "nk"]]:
    """Every anchor beside each of its selected indices, flat."""
    return anchors[:, None].expand_as(index).reshape(-1), index.reshape(-1)


def listed_scores(scores: Scores, lists: list[tuple[Tensor, Tensor]]) -> list[Float[Tensor, "..."]]:
    """Scores of several lists of pairs by one gather."""
    rows = torch.cat([r for r, _ in lists])
    columns = torch.cat([c for _, c in lists])
    return list(scores.pairs(rows, columns).split([r.shape[0] for r, _ in lists]))


def query_search(call: Call, selection: Selection, window: Window) -> Search:
    """The search for negatives of the queries, whatever their positives."""
    seed, hardest = seed_for(selection, call.scores), call.statistics
    return Search(selection, window=window, seed=seed, columns=False, hardest=hardest)


def mined_queries(call: Call, selection: Selection, window: Window = OPEN) -> Mined:
    """Negatives of the queries, whatever their positives."""
    scores, own = call.scores, call.scores.row_numbers()
    found = scores.select(query_search(call, selection, window))
    mined = Mined.of(scores.pairs(*flat_pairs(own, found.rows)), found.rows)
    if not call.statistics:
        return mined
    with torch.no_grad():
        return replace(mined, hardest=scores.pairs(own, found.hardest_rows[:, 0]))
