"""The dense definitions of the reductions: the specification that every other implementation is tested against.

Plain autograd over the whole query x candidate matrix, in float64 where the inputs are float64. Those over
every positive of a query are in ``hardneg.ops.reference_pairs``.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from hardneg.ops.description import Among, Comparison, admitted
from hardneg.ops.executor import LogSumExp, Selected, Sums
from hardneg.ops.requests import ExponentialTerms, PenaltyTerms, Search
from hardneg.selection import COLUMN_SALT, ROW_SALT, Selection, ranking_keys
from hardneg.similarities import scores_of, working

if TYPE_CHECKING:
    from jaxtyping import Bool, Float, Int

__all__ = [
    "admitted_counts",
    "logsumexp",
    "pair_scores",
    "penalty_sum",
    "positive_pairs",
    "select",
    "select_per_pair",
]


def scores(comparison: Comparison) -> Float[Tensor, "n m"]:
    """The matrix itself, in float32 or float64, outside autocast."""
    if comparison.scores is not None:
        return comparison.scores
    queries, candidates = working(comparison.queries), working(comparison.candidates)
    return scores_of(comparison.similarity, queries, candidates)


def mask(comparison: Comparison, among: Among) -> Bool[Tensor, "n m"]:
    """Which pairs take part."""
    n, m = comparison.queries.shape[0], comparison.candidates.shape[0]
    device = comparison.queries.device
    return admitted(comparison.relation, among, slice(0, n), slice(0, m), device)


def within(
    taken: Bool[Tensor, "n m"],
    s: Float[Tensor, "n m"],
    floor: Tensor | None,
    ceiling: Tensor | None,
) -> Bool[Tensor, "n m"]:
    """Which of the admitted scores of each row lie strictly between its bounds."""
    if floor is not None:
        taken = taken & (s > floor[:, None])
    if ceiling is not None:
        taken = taken & (s < ceiling[:, None])
    return taken


def first_k(keys: Float[Tensor, "n m"], taken: Bool[Tensor, "n m"], k: int) -> Int[Tensor, "n k"]:
    """Indices of the k highest admitted keys of each row, ties by the smallest index; -1 where there are fewer."""
    if k == 1 and keys.shape[1] > 0:  # the index that max returns is the first one
        best = torch.where(taken, keys, -math.inf).max(dim=1, keepdim=True)
        return torch.where(best.values > -math.inf, best.indices, -1)
    taken = taken & (keys > -math.inf)
    order = torch.where(taken, keys, -math.inf).sort(dim=1, descending=True, stable=True).indices
    order = torch.where(taken.gather(1, order), order, -1)[:, :k]
    return torch.nn.functional.pad(order, (0, k - order.shape[1]), value=-1)


def select_rows(
    s: Float[Tensor, "n m"],
    taken: Bool[Tensor, "n m"],
    keys: Float[Tensor, "n m"],
    selection: Selection,
    floor: Tensor | None,
    ceiling: Tensor | None,
) -> Int[Tensor, "n k"]:
    """The selection of every row."""
    chosen = first_k(keys, within(taken, s, floor, ceiling), selection.k)[:, selection.skip :]
    if selection.fallback != "none":
        rescue = first_k(-s if selection.fallback == "easiest" else s, taken, 1)
        empty = chosen[:, :1] < 0
        chosen = torch.cat([torch.where(empty, rescue, chosen[:, :1]), chosen[:, 1:]], dim=1)
    return chosen


@torch.no_grad()
def select(comparison: Comparison, search: Search) -> Selected:
    """What ``Search`` describes; a side that does not search is empty."""
    s, taken = scores(comparison).detach(), mask(comparison, search.among)
    selection, seed, window = search.selection, search.seed, search.window
    relation, similarity = comparison.relation, comparison.similarity
    n, m = s.shape
    row = torch.arange(n, device=s.device) + relation.row_offset
    column = torch.arange(m, device=s.device) + relation.column_offset
    none = torch.empty(0, selection.k - selection.skip, dtype=torch.long, device=s.device)
    of_rows = of_columns = none
    top_rows = top_columns = torch.empty(0, 1, dtype=torch.long, device=s.device)
    if search.rows and search.hardest:
        top_rows = first_k(s, taken, 1)
    if search.columns and search.hardest:
        top_columns = first_k(s.T, taken.T, 1)
    if search.rows:
        keys = ranking_keys(s, selection, similarity, seed, row, column, ROW_SALT)
        of_rows = select_rows(s, taken, keys, selection, window.row_floor, window.row_ceiling)
    if search.columns:
        keys = ranking_keys(s.T, selection, similarity, seed, column, row, COLUMN_SALT)
        of_columns = select_rows(
            s.T, taken.T, keys, selection, window.column_floor, window.column_ceiling
        )
    return Selected(of_rows, of_columns, top_rows, top_columns)


@torch.no_grad()
def select_per_pair(
    comparison: Comparison,
    anchors: Int[Tensor, "t"],
    ceilings: Float[Tensor, "t"],
    selection: Selection,
    seed: Int[Tensor, ""] | None = None,
) -> Int[Tensor, "t k"]:
    """``select`` among the negatives of ``anchors[t]`` that score below ``ceilings[t]``, for every t."""
    s, taken = scores(comparison), mask(comparison, "negatives")
    n, m = s.shape
    row = torch.arange(n, device=s.device) + comparison.relation.row_offset
    column = torch.arange(m, device=s.device) + comparison.relation.column_offset
    keys = ranking_keys(s, selection, comparison.similarity, seed, row, column, ROW_SALT)
    return select_rows(s[anchors], taken[anchors], keys[anchors], selection, None, ceilings)


def pair_scores(
    comparison: Comparison, rows: Int[Tensor, "..."], columns: Int[Tensor, "..."]
) -> Float[Tensor, "..."]:
    """``scores[rows, columns]``; 0 without gradient where either index is negative."""
    valid = (rows >= 0) & (columns >= 0)
    found = scores(comparison)[rows.clamp(min=0), columns.clamp(min=0)]
    return torch.where(valid, found, 0.0)


def admitted_counts(
    comparison: Comparison, among: Among
) -> tuple[Int[Tensor, "n"], Int[Tensor, "m"]]:
    """How many candidates every query admits, and how many queries every candidate."""
    taken = mask(comparison, among)
    return taken.sum(1), taken.sum(0)


def positive_pairs(comparison: Comparison) -> tuple[Int[Tensor, "t"], Int[Tensor, "t"]]:
    """All (query, positive candidate) pairs, by query, then by candidate."""
    rows, columns = mask(comparison, "positives").nonzero(as_tuple=True)
    return rows, columns


def penalty_sum(comparison: Comparison, terms: PenaltyTerms) -> Sums:
    """Sum over the admitted candidates of ``phi(sign * (scale * score - threshold))``.

    Returns, each for rows and for columns, the sums, the counts of terms with a value above 0, and the
    largest argument of phi (-inf where nothing was admitted). A side without thresholds is empty.
    """
    s, taken = scores(comparison), mask(comparison, terms.among)
    z = s if terms.scale is None else s * terms.scale
    window, penalty = terms.window, terms.penalty
    none = s.new_zeros(0)
    sums, counts, maxima = [], [], []
    sides = (
        (z, s, taken, terms.row_thresholds, window.row_floor, window.row_ceiling),
        (z.T, s.T, taken.T, terms.column_thresholds, window.column_floor, window.column_ceiling),
    )
    for logits, raw, mine, thresholds, floor, ceiling in sides:
        if thresholds is None:
            sums.append(none)
            counts.append(none.long())
            maxima.append(none)
            continue
        inside = within(mine, raw.detach(), floor, ceiling)
        x = terms.sign * (logits - thresholds[:, None])
        value = torch.where(inside, penalty.value(torch.where(inside, x, 0.0)), 0.0)
        sums.append(value.sum(1))
        counts.append((value.detach() > 0).sum(1))
        maxima.append(torch.where(inside, x.detach(), -math.inf).amax(1))
    return Sums(*sums, *counts, *maxima)


def logsumexp(comparison: Comparison, terms: ExponentialTerms) -> LogSumExp:
    """Log of the sum over the admitted candidates of ``exp(scale * energy(score))``; -inf where there are none.

    For rows and for columns; then the largest exponents of both.
    """
    s, taken = scores(comparison), mask(comparison, terms.among)
    logits = terms.energy(s) if terms.scale is None else terms.energy(s) * terms.scale
    raw, window = s.detach(), terms.window
    of_rows = within(taken, raw, window.row_floor, window.row_ceiling)
    of_columns = within(taken.T, raw.T, window.column_floor, window.column_ceiling)
    sides = (terms.rows, logits, of_rows), (terms.columns, logits.T, of_columns)
    none = s.new_zeros(0)
    result = [masked_logsumexp(z, inside) if on else none for on, z, inside in sides]
    maxima = [
        torch.where(inside, z.detach(), -math.inf).amax(1) if on else none
        for on, z, inside in sides
    ]
    return LogSumExp(*result, *maxima)


def masked_logsumexp(z: Float[Tensor, "n m"], inside: Bool[Tensor, "n m"]) -> Float[Tensor, "n"]:
    """Row-wise log-sum-exp of the admitted entries, -inf and no gradient for a row without any."""
    some = inside.any(1)
    filled = torch.where(inside, z, -math.inf)
    total = torch.logsumexp(torch.where(some[:, None], filled, 0.0), dim=1)
    return torch.where(some, total, -math.inf)
