"""The negatives that a loss chooses, by index: the searches of its terms without the terms."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from hardneg.losses.mined import MinedByLoss, MinedTerms
from hardneg.losses.terms.mining import chosen_selection, paired_search, query_search, seed_for
from hardneg.losses.terms.windows import bound_of, window_of_negatives
from hardneg.ops.requests import PairSearch
from hardneg.ops.scores import Scores

if TYPE_CHECKING:
    from jaxtyping import Bool, Int

    from hardneg.losses.call import Call

__all__ = ["choices_of_pairs", "choices_of_queries", "mined_terms", "paired_choices"]


def mined_terms(
    scores: Scores,
    anchors: Int[Tensor, "t"],
    index: Int[Tensor, "t k"],
    positives: Int[Tensor, "t"] | None = None,
    *,
    of_columns: bool = False,
) -> MinedTerms:
    """Chosen negatives with their scores; ``of_columns``: queries of candidates."""
    pairs = anchors[:, None].expand_as(index), index
    there = index >= 0
    found = scores.pairs(*(pairs[::-1] if of_columns else pairs))
    found = torch.where(there, found, -torch.inf)
    return MinedTerms(index, found, there.sum(1), anchors, positives)


def where_valid(index: Int[Tensor, "t k"], valid: Bool[Tensor, "t"]) -> Int[Tensor, "t k"]:
    """Nothing for anchors that have no term."""
    return torch.where(valid[:, None], index, -1)


def paired_choices(call: Call, positive: Int[Tensor, "n"]) -> MinedByLoss:
    """Of losses with one positive an anchor: query i with candidate ``positive[i]``, in all directions."""
    scores, own = call.scores, call.scores.row_numbers()
    found, has = scores.select(paired_search(call, positive, chosen_selection(call))), positive >= 0
    queries = candidates = None
    if call.queries:
        queries = mined_terms(scores, own, where_valid(found.rows, has), positive)
    if call.candidates:
        index = where_valid(found.columns[: len(own)], has)
        partners = torch.where(has, own, -1)
        candidates = mined_terms(scores, own, index, partners, of_columns=True)
    return MinedByLoss(queries, candidates)


def choices_of_queries(call: Call, *, need_positive: bool = True) -> MinedTerms:
    """Of losses whose negatives belong to a query, whatever its positives."""
    scores, relation = call.scores, call.scores.relation
    search = query_search(call, chosen_selection(call), window_of_negatives(call))
    index = scores.select(search).rows
    if need_positive:
        index = where_valid(index, scores.counts("positives")[0] > 0)
    positives = call.own_positive() if relation.paired else None
    return mined_terms(scores, scores.row_numbers(), index, positives)


def choices_of_pairs(call: Call) -> MinedTerms:
    """Of losses with a term for each positive: under a ceiling each has negatives of its own, else the query has."""
    if call.negatives.ceiling is None:
        return choices_of_queries(call)
    scores, selection = call.scores, chosen_selection(call)
    anchors, positives = scores.positive_pairs()
    bound = bound_of(call, anchors, positives, scores.pairs(anchors, positives))
    seed, score_range = seed_for(selection, scores), call.negatives.score_range
    search = PairSearch(anchors, bound, selection, seed, score_range)
    return mined_terms(scores, anchors, scores.select_per_pair(search), positives)
