"""Every (anchor, positive) pair as a term, over the negatives that a strategy selects."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from hardneg.losses.terms.mining import seed_for
from hardneg.losses.terms.reduction import Terms
from hardneg.negatives import Selection
from hardneg.ops.requests import Search, SelectedTerms
from hardneg.ops.scores import Scores
from hardneg.penalties import Penalty

if TYPE_CHECKING:
    from jaxtyping import Float

    from hardneg.losses.call import Call

__all__ = ["selected_pairs"]


def selected_pairs(
    call: Call, margin: float, penalty: Penalty | None = None, scale: Tensor | None = None
) -> Terms:
    """The terms of all queries' positives, by a penalty or a softmax; reduced, or one by one."""
    scores, listed, total = call.scores, call.lists_terms, call.reduction != "none"
    # all negatives under a ceiling for each pair are the first m of them
    selection = call.selection or Selection("highest", scores.shape[1])
    seed = seed_for(selection, scores)
    strategy = call.negatives
    given = selection, margin, penalty, scale, strategy.ceiling, seed
    terms = SelectedTerms(*given, listed, total, strategy.score_range)
    found = scores.selected_penalty(terms)
    hardest = highest_negative(scores) if call.statistics else None
    if listed:
        of_pairs, anchors = torch.zeros_like(found.positives), scores.positive_pairs()[0]
        if hardest is not None:
            of_pairs = hardest.index_select(0, anchors)
        valid = found.considered > 0
        of_terms = found.sums, valid, found.counts, found.considered, found.positives, of_pairs
        return Terms(*of_terms, anchors=anchors)
    value = found.sums
    if call.reduction not in ("sum", "none"):
        counts = {"mean_active": found.counts, "mean_triplets": found.considered}
        value = value / counts.get(call.reduction, found.pairs).sum().clamp(min=1)
    mean = found.positives / found.pairs.clamp(min=1)
    return Terms(
        value,
        found.pairs > 0,
        found.counts,
        found.considered,
        mean,
        mean if hardest is None else hardest,
        summed=True,
        pairs=found.pairs,
    )


@torch.no_grad()
def highest_negative(scores: Scores) -> Float[Tensor, "n"]:
    """The highest score of each query's negatives, for statistics."""
    found = scores.select(Search(Selection("highest", 1), columns=False))
    return scores.pairs(scores.row_numbers(), found.rows[:, 0])
