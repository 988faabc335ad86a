"""The dense definitions over every positive of a query: batch-all, and negatives selected for each pair."""

from __future__ import annotations

import math
from dataclasses import replace

import torch

from hardneg.ceilings import Ceiling
from hardneg.ops import reference
from hardneg.ops.description import Comparison
from hardneg.ops.executor import BatchAll, SelectedSums
from hardneg.ops.requests import Search, SelectedTerms
from hardneg.ops.rounding import Ceilings, Magnitudes, bounds_under, rounding_of
from hardneg.ops.selected_terms import term_values, terms_by_query
from hardneg.penalties import Penalty

__all__ = ["positives_penalty", "selected_penalty"]


def positives_penalty(
    comparison: Comparison,
    penalty: Penalty,
    margin: float,
    ceiling: Ceiling | None = None,
    per_pair: bool = False,
) -> BatchAll:
    """Batch-all: ``sum over positives p and negatives c of phi(s[i, c] - s[i, p] + margin)`` for every query i.

    With a ceiling only the negatives below ``ceiling(s[i, p])`` beyond rounding. Returns the sums and the counts of
    terms with a value above 0, one an anchor, or one an (anchor, positive) pair with ``per_pair``; and
    without gradient, of each anchor, the highest score of its negatives (-inf where there are none),
    the sum of its positives' scores, and how many of its positives admit a negative.
    """
    s = reference.scores(comparison)
    positive, negative = (
        reference.mask(comparison, "positives"),
        reference.mask(comparison, "negatives"),
    )
    sums, counts, pairs = [], [], []
    bounds = None
    if ceiling is not None:
        rows, columns = (torch.arange(k, device=s.device) for k in s.shape)
        bounds = Ceilings(ceiling, comparison).over(rows[:, None], columns, s.detach())
    for i in range(s.shape[0]):
        p, c = s[i][positive[i]], s[i][negative[i]]
        value = penalty.value(c[None] - p[:, None] + margin)
        below = torch.ones_like(value, dtype=torch.bool)
        if bounds is not None:
            below = c.detach()[None] < bounds[i][positive[i]][:, None]
            value = torch.where(below, value, 0.0)
        pairs.append(below.any(1).sum())
        sums.append(value.sum(1) if per_pair else value.sum()[None])
        active = value.detach() > 0
        counts.append(active.sum(1) if per_pair else active.sum()[None])
    maxima = torch.where(negative, s.detach(), -math.inf).amax(1)
    of_positives = torch.where(positive, s.detach(), 0.0).sum(1)
    return BatchAll(torch.cat(sums), torch.cat(counts), maxima, of_positives, torch.stack(pairs))


def selected_penalty(
    comparison: Comparison, terms: SelectedTerms, per_pair: bool = False
) -> SelectedSums:
    """What ``SelectedTerms`` describes, one entry a query, or one an (query, positive) pair with ``per_pair``."""
    s = reference.scores(comparison)
    known = replace(comparison, scores=s)
    queries, positives = reference.positive_pairs(known)
    p = s[queries, positives]
    if terms.ceiling is None:
        search = Search(terms.selection, seed=terms.seed, columns=False)
        chosen = reference.select(known, search).rows[queries]
    else:
        rounding = rounding_of(
            comparison, p, lambda: Magnitudes(comparison).of_pairs(queries, positives)
        )
        bounds = bounds_under(terms.ceiling, p.detach(), rounding)
        chosen = reference.select_per_pair(known, queries, bounds, terms.selection, terms.seed)
    there = chosen >= 0
    negatives = torch.where(there, s[queries[:, None], chosen.clamp(min=0)], 0.0)
    values, counts = term_values(terms, p, negatives, there)
    considered = there.sum(1)
    pairs = considered.new_zeros(len(s)).index_add(0, queries, (considered > 0).long())
    found = SelectedSums(values, counts, considered, p.detach(), pairs)
    return found if per_pair else terms_by_query(found, queries, len(s))
