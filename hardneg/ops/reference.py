"""The dense definitions of the reductions: the specification that every other implementation is tested against.

Plain autograd over the whole query x candidate matrix, in float64 where the inputs are float64.
"""

from __future__ import annotations

import math

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from hardneg.ceilings import Ceiling
from hardneg.energies import Energy
from hardneg.ops.description import Among, Comparison, Window, admitted
from hardneg.penalties import Penalty
from hardneg.selection import COLUMN_SALT, ROW_SALT, Selection, ranking_keys
from hardneg.similarities import working

__all__ = [
    "logsumexp",
    "pair_scores",
    "penalty_sum",
    "positives_penalty",
    "select",
    "select_per_pair",
]


def scores(comparison: Comparison) -> Float[Tensor, "n m"]:
    """The matrix itself, in float32 or float64, outside autocast."""
    queries, candidates = working(comparison.queries), working(comparison.candidates)
    with torch.autocast(queries.device.type, enabled=False):
        return comparison.similarity(queries, candidates)


def mask(comparison: Comparison, among: Among) -> Bool[Tensor, "n m"]:
    """Which pairs take part."""
    n, m = comparison.queries.shape[0], comparison.candidates.shape[0]
    device = comparison.queries.device
    return admitted(comparison.relation, among, slice(0, n), slice(0, m), device)


def within(
    s: Float[Tensor, "n m"], floor: Tensor | None, ceiling: Tensor | None
) -> Bool[Tensor, "n m"]:
    """Which scores of each row lie strictly between its bounds."""
    inside = torch.ones_like(s, dtype=torch.bool)
    if floor is not None:
        inside = inside & (s > floor[:, None])
    if ceiling is not None:
        inside = inside & (s < ceiling[:, None])
    return inside


def first_k(
    keys: Float[Tensor, "n m"], taken: Bool[Tensor, "n m"], k: int
) -> Int[Tensor, "n k"]:
    """Indices of the k highest admitted keys of each row, ties by the smallest index; -1 where there are fewer."""
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
    chosen = first_k(keys, taken & within(s, floor, ceiling), selection.k)
    if selection.fallback != "none":
        rescue = first_k(-s if selection.fallback == "easiest" else s, taken, 1)
        empty = chosen[:, :1] < 0
        chosen = torch.cat([torch.where(empty, rescue, chosen[:, :1]), chosen[:, 1:]], dim=1)
    return chosen[:, selection.skip :]


@torch.no_grad()
def select(
    comparison: Comparison,
    selection: Selection,
    among: Among = "negatives",
    window: Window = Window(),
    seed: Int[Tensor, ""] | None = None,
    rows: bool = True,
    columns: bool = True,
) -> tuple[Int[Tensor, "n k"], Int[Tensor, "m k"]]:
    """The k first admitted candidates of every query, and the k first admitted queries of every candidate."""
    s, taken = scores(comparison), mask(comparison, among)
    relation, similarity = comparison.relation, comparison.similarity
    n, m = s.shape
    row = torch.arange(n, device=s.device) + relation.row_offset
    column = torch.arange(m, device=s.device) + relation.column_offset
    none = torch.empty(0, selection.k - selection.skip, dtype=torch.long, device=s.device)
    of_rows = of_columns = none
    if rows:
        keys = ranking_keys(s, selection, similarity, seed, row, column, ROW_SALT)
        of_rows = select_rows(s, taken, keys, selection, window.row_floor, window.row_ceiling)
    if columns:
        keys = ranking_keys(s.T, selection, similarity, seed, column, row, COLUMN_SALT)
        of_columns = select_rows(
            s.T, taken.T, keys, selection, window.column_floor, window.column_ceiling
        )
    return of_rows, of_columns


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


def penalty_sum(
    comparison: Comparison,
    penalty: Penalty,
    row_thresholds: Float[Tensor, "n"] | None,
    column_thresholds: Float[Tensor, "m"] | None,
    *,
    among: Among = "negatives",
    sign: float = 1.0,
    scale: Float[Tensor, ""] | None = None,
    window: Window = Window(),
) -> tuple[Float[Tensor, "n"], Float[Tensor, "m"], Int[Tensor, "n"], Int[Tensor, "m"]]:
    """Sum over the admitted candidates of ``phi(sign * (scale * score - threshold))``.

    Returns the sums of rows and columns, then the counts of their terms with a value above 0. A side
    without thresholds is empty.
    """
    s, taken = scores(comparison), mask(comparison, among)
    z = s if scale is None else s * scale
    none = s.new_zeros(0)
    result: list[Tensor] = []
    sides = (
        (z, s, taken, row_thresholds, window.row_floor, window.row_ceiling),
        (z.T, s.T, taken.T, column_thresholds, window.column_floor, window.column_ceiling),
    )
    for logits, raw, mine, thresholds, floor, ceiling in sides:
        if thresholds is None:
            result += [none, none.long()]
            continue
        inside = mine & within(raw.detach(), floor, ceiling)
        x = sign * (logits - thresholds[:, None])
        value = torch.where(inside, penalty.value(torch.where(inside, x, 0.0)), 0.0)
        result += [value.sum(1), (value.detach() > 0).sum(1)]
    return result[0], result[2], result[1], result[3]


def positives_penalty(
    comparison: Comparison,
    penalty: Penalty,
    margin: float,
    ceiling: Ceiling | None = None,
    per_pair: bool = False,
) -> tuple[Float[Tensor, "t"], Int[Tensor, "t"]]:
    """Batch-all: ``sum over positives p and negatives c of phi(s[i, c] - s[i, p] + margin)`` for every query i.

    With a ceiling only the negatives below ``ceiling(s[i, p])``. Returns the sums and the counts of
    terms with a value above 0: one an anchor, or one an (anchor, positive) pair with ``per_pair``.
    """
    s = scores(comparison)
    positive, negative = mask(comparison, "positives"), mask(comparison, "negatives")
    sums, counts = [], []
    for i in range(s.shape[0]):
        p, c = s[i][positive[i]], s[i][negative[i]]
        value = penalty.value(c[None] - p[:, None] + margin)
        if ceiling is not None:
            bound = ceiling(p.detach())
            value = torch.where(c[None] < bound[:, None], value, 0.0)
        sums.append(value.sum(1) if per_pair else value.sum()[None])
        active = value.detach() > 0
        counts.append(active.sum(1) if per_pair else active.sum()[None])
    return torch.cat(sums), torch.cat(counts)


def logsumexp(
    comparison: Comparison,
    energy: Energy,
    *,
    among: Among = "negatives",
    scale: Float[Tensor, ""] | None = None,
    window: Window = Window(),
    rows: bool = True,
    columns: bool = True,
) -> tuple[Float[Tensor, "n"], Float[Tensor, "m"]]:
    """Log of the sum over the admitted candidates of ``exp(scale * energy(score))``; -inf where there are none."""
    s, taken = scores(comparison), mask(comparison, among)
    logits = energy(s) if scale is None else energy(s) * scale
    sides = (
        (rows, logits, within(s.detach(), window.row_floor, window.row_ceiling) & taken),
        (
            columns,
            logits.T,
            within(s.detach().T, window.column_floor, window.column_ceiling) & taken.T,
        ),
    )
    result = [masked_logsumexp(z, inside) if on else s.new_zeros(0) for on, z, inside in sides]
    return result[0], result[1]


def masked_logsumexp(z: Float[Tensor, "n m"], inside: Bool[Tensor, "n m"]) -> Float[Tensor, "n"]:
    """Row-wise log-sum-exp of the admitted entries, -inf and no gradient for a row without any."""
    some = inside.any(1)
    filled = torch.where(inside, z, -math.inf)
    total = torch.logsumexp(torch.where(some[:, None], filled, 0.0), dim=1)
    return torch.where(some, total, -math.inf)
