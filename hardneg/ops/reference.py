"""The dense definitions of the reductions: the specification that every other implementation is tested against.

Plain autograd over the whole query x candidate matrix, in float64 where the inputs are float64.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from hardneg.ceilings import Ceiling
from hardneg.checks import check_scores
from hardneg.energies import Energy
from hardneg.ops.description import Among, Comparison, Window, admitted
from hardneg.penalties import Penalty
from hardneg.selection import COLUMN_SALT, ROW_SALT, Selection, ranking_keys
from hardneg.similarities import working

if TYPE_CHECKING:
    from jaxtyping import Bool, Float, Int

__all__ = [
    "admitted_counts",
    "logsumexp",
    "pair_scores",
    "penalty_sum",
    "positive_pairs",
    "positives_penalty",
    "select",
    "select_per_pair",
]


def scores(comparison: Comparison) -> Float[Tensor, "n m"]:
    """The matrix itself, in float32 or float64, outside autocast."""
    if comparison.scores is not None:
        return comparison.scores
    queries, candidates = working(comparison.queries), working(comparison.candidates)
    with torch.autocast(queries.device.type, enabled=False):
        found = comparison.similarity(queries, candidates)
    return check_scores(found, queries.shape[0], candidates.shape[0])


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
def select(
    comparison: Comparison,
    selection: Selection,
    among: Among = "negatives",
    window: Window | None = None,
    seed: Int[Tensor, ""] | None = None,
    rows: bool = True,
    columns: bool = True,
    hardest: bool = False,
) -> tuple[Int[Tensor, "n k"], Int[Tensor, "m k"], Int[Tensor, "n 1"], Int[Tensor, "m 1"]]:
    """The k first admitted candidates of every query, and the k first admitted queries of every candidate.

    With ``hardest`` also the highest-scoring admitted one of each, whatever the selection and the
    window (for mining statistics); else the last two results are empty.
    """
    s, taken = scores(comparison).detach(), mask(comparison, among)
    window = window or Window()
    relation, similarity = comparison.relation, comparison.similarity
    n, m = s.shape
    row = torch.arange(n, device=s.device) + relation.row_offset
    column = torch.arange(m, device=s.device) + relation.column_offset
    none = torch.empty(0, selection.k - selection.skip, dtype=torch.long, device=s.device)
    of_rows = of_columns = none
    top_rows = top_columns = torch.empty(0, 1, dtype=torch.long, device=s.device)
    if rows and hardest:
        top_rows = first_k(s, taken, 1)
    if columns and hardest:
        top_columns = first_k(s.T, taken.T, 1)
    if rows:
        keys = ranking_keys(s, selection, similarity, seed, row, column, ROW_SALT)
        of_rows = select_rows(s, taken, keys, selection, window.row_floor, window.row_ceiling)
    if columns:
        keys = ranking_keys(s.T, selection, similarity, seed, column, row, COLUMN_SALT)
        of_columns = select_rows(
            s.T, taken.T, keys, selection, window.column_floor, window.column_ceiling
        )
    return of_rows, of_columns, top_rows, top_columns


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


def penalty_sum(
    comparison: Comparison,
    penalty: Penalty,
    row_thresholds: Float[Tensor, "n"] | None,
    column_thresholds: Float[Tensor, "m"] | None,
    *,
    among: Among = "negatives",
    sign: float = 1.0,
    scale: Float[Tensor, ""] | None = None,
    window: Window | None = None,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Sum over the admitted candidates of ``phi(sign * (scale * score - threshold))``.

    Returns, each for rows and for columns, the sums, the counts of terms with a value above 0, and the
    largest argument of phi (-inf where nothing was admitted). A side without thresholds is empty.
    """
    s, taken = scores(comparison), mask(comparison, among)
    z = s if scale is None else s * scale
    window = window or Window()
    none = s.new_zeros(0)
    sums, counts, maxima = [], [], []
    sides = (
        (z, s, taken, row_thresholds, window.row_floor, window.row_ceiling),
        (z.T, s.T, taken.T, column_thresholds, window.column_floor, window.column_ceiling),
    )
    for logits, raw, mine, thresholds, floor, ceiling in sides:
        if thresholds is None:
            sums.append(none)
            counts.append(none.long())
            maxima.append(none)
            continue
        inside = within(mine, raw.detach(), floor, ceiling)
        x = sign * (logits - thresholds[:, None])
        value = torch.where(inside, penalty.value(torch.where(inside, x, 0.0)), 0.0)
        sums.append(value.sum(1))
        counts.append((value.detach() > 0).sum(1))
        maxima.append(torch.where(inside, x.detach(), -math.inf).amax(1))
    return sums[0], sums[1], counts[0], counts[1], maxima[0], maxima[1]


def positives_penalty(
    comparison: Comparison,
    penalty: Penalty,
    margin: float,
    ceiling: Ceiling | None = None,
    per_pair: bool = False,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Batch-all: ``sum over positives p and negatives c of phi(s[i, c] - s[i, p] + margin)`` for every query i.

    With a ceiling only the negatives below ``ceiling(s[i, p])``. Returns the sums and the counts of
    terms with a value above 0, one an anchor, or one an (anchor, positive) pair with ``per_pair``; and
    without gradient, of each anchor, the highest score of its negatives (-inf where there are none),
    the sum of its positives' scores, and how many of its positives admit a negative.
    """
    s = scores(comparison)
    positive, negative = mask(comparison, "positives"), mask(comparison, "negatives")
    sums, counts, pairs = [], [], []
    for i in range(s.shape[0]):
        p, c = s[i][positive[i]], s[i][negative[i]]
        value = penalty.value(c[None] - p[:, None] + margin)
        below = torch.ones_like(value, dtype=torch.bool)
        if ceiling is not None:
            below = c.detach()[None] < ceiling(p.detach())[:, None]
            value = torch.where(below, value, 0.0)
        pairs.append(below.any(1).sum())
        sums.append(value.sum(1) if per_pair else value.sum()[None])
        active = value.detach() > 0
        counts.append(active.sum(1) if per_pair else active.sum()[None])
    maxima = torch.where(negative, s.detach(), -math.inf).amax(1)
    of_positives = torch.where(positive, s.detach(), 0.0).sum(1)
    return torch.cat(sums), torch.cat(counts), maxima, of_positives, torch.stack(pairs)


def logsumexp(
    comparison: Comparison,
    energy: Energy,
    *,
    among: Among = "negatives",
    scale: Float[Tensor, ""] | None = None,
    window: Window | None = None,
    rows: bool = True,
    columns: bool = True,
) -> tuple[Float[Tensor, "n"], Float[Tensor, "m"], Float[Tensor, "n"], Float[Tensor, "m"]]:
    """Log of the sum over the admitted candidates of ``exp(scale * energy(score))``; -inf where there are none.

    For rows and for columns; then the largest exponents of both.
    """
    s, taken = scores(comparison), mask(comparison, among)
    logits = energy(s) if scale is None else energy(s) * scale
    window = window or Window()
    sides = (
        (rows, logits, within(taken, s.detach(), window.row_floor, window.row_ceiling)),
        (
            columns,
            logits.T,
            within(taken.T, s.detach().T, window.column_floor, window.column_ceiling),
        ),
    )
    none = s.new_zeros(0)
    result = [masked_logsumexp(z, inside) if on else none for on, z, inside in sides]
    maxima = [
        torch.where(inside, z.detach(), -math.inf).amax(1) if on else none
        for on, z, inside in sides
    ]
    return result[0], result[1], maxima[0], maxima[1]


def masked_logsumexp(z: Float[Tensor, "n m"], inside: Bool[Tensor, "n m"]) -> Float[Tensor, "n"]:
    """Row-wise log-sum-exp of the admitted entries, -inf and no gradient for a row without any."""
    some = inside.any(1)
    filled = torch.where(inside, z, -math.inf)
    total = torch.logsumexp(torch.where(some[:, None], filled, 0.0), dim=1)
    return torch.where(some, total, -math.inf)
