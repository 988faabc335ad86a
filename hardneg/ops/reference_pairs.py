"""The definitions over every positive of a query: batch-all, and negatives selected for each pair."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch

from hardneg.ops.requests import BatchAllTerms, PairSearch, SelectedTerms
from hardneg.ops.rounding import Ceilings, bounds_under, rounding_of
from hardneg.ops.scores import BatchAll, Scores, SelectedSums
from hardneg.ops.selected_terms import collect_terms

if TYPE_CHECKING:
    from hardneg.ops.reference import DenseScores

__all__ = ["batch_all", "selected_penalty"]


def batch_all(scores: DenseScores, terms: BatchAllTerms) -> BatchAll:
    """``sum over positives p and negatives c of phi(s[i, c] - s[i, p] + margin)`` for every query i.

    With a ceiling only the negatives below ``ceiling(s[i, p])`` beyond rounding.
    """
    s, bounds = scores.matrix, None
    if terms.ceiling is not None:
        rows, columns = (torch.arange(k, device=s.device) for k in s.shape)
        ceilings = Ceilings(terms.ceiling, scores.comparison)
        bounds = ceilings.over(rows[:, None], columns, s.detach())
    positive, negative = scores.mask("positives"), scores.mask("negatives")
    if terms.score_range:
        low, high = terms.score_range
        negative = negative & (s.detach() > low) & (s.detach() < high)
    sums, counts, pairs = [], [], []
    for i in range(s.shape[0]):
        p, c = s[i][positive[i]], s[i][negative[i]]
        value = terms.penalty.value(c[None] - p[:, None] + terms.margin)
        below = torch.ones_like(value, dtype=torch.bool)
        if bounds is not None:
            below = c.detach()[None] < bounds[i][positive[i]][:, None]
            value = torch.where(below, value, 0.0)
        pairs.append(below.any(1).sum())
        active = value.detach() > 0
        sums.append(value.sum(1) if terms.per_pair else value.sum()[None])
        counts.append(active.sum(1) if terms.per_pair else active.sum()[None])
    maxima = torch.where(negative, s.detach(), -math.inf).amax(1)
    of_positives = torch.where(positive, s.detach(), 0.0).sum(1)
    summed = torch.cat(sums).sum() if terms.total else torch.cat(sums)
    return BatchAll(summed, torch.cat(counts), maxima, of_positives, torch.stack(pairs))


def selected_penalty(scores: Scores, terms: SelectedTerms) -> SelectedSums:
    """What ``SelectedTerms`` describes, one entry a query, or one a (query, positive) pair with ``per_pair``."""
    queries, positives = scores.positive_pairs()
    p = scores.pairs(queries, positives)
    if terms.ceiling is None:
        chosen = scores.select(terms.search(scores.zeros())).rows[queries]
    else:
        rounding = rounding_of(scores.comparison, p, lambda: scores.magnitudes(queries, positives))
        bounds = bounds_under(terms.ceiling, p.detach(), rounding)
        search = PairSearch(queries, bounds, terms.selection, terms.seed, terms.score_range)
        chosen = scores.select_per_pair(search)
    negatives = scores.pairs(queries[:, None].expand_as(chosen), chosen)
    return collect_terms(terms, queries, p, negatives, chosen >= 0, scores.shape[0])
