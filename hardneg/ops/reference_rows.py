"""The definitions of a side: every row of scores by itself; of the other side that of the transposed matrix."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from hardneg.negatives import Selection
from hardneg.negatives.selection import with_fallback
from hardneg.ops.requests import PenaltyTerms

if TYPE_CHECKING:
    from jaxtyping import Bool, Float, Int

__all__ = ["first_k", "masked_logsumexp", "penalty_of_rows", "select_rows", "within"]


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
    bounds: tuple[Tensor | None, Tensor | None],
) -> Int[Tensor, "n k"]:
    """The selection of every row."""
    chosen = first_k(keys, within(taken, s, *bounds), selection.k)[:, selection.skip :]
    if selection.fallback != "none":
        fallback = first_k(-s if selection.fallback == "easiest" else s, taken, 1)
        chosen = with_fallback(chosen, fallback)
    return chosen


def penalty_of_rows(
    terms: PenaltyTerms,
    s: Float[Tensor, "n m"],
    taken: Bool[Tensor, "n m"],
    thresholds: Tensor | None,
    bounds: tuple[Tensor | None, Tensor | None],
) -> tuple[Tensor, Tensor, Tensor]:
    """Sums, counts and largest arguments of the rows; empty without thresholds."""
    if thresholds is None:
        none = s.new_zeros(0)
        return none, none.long(), none
    inside = within(taken, s.detach(), *bounds)
    x = terms.sign * ((s if terms.scale is None else s * terms.scale) - thresholds[:, None])
    value = torch.where(inside, terms.penalty.value(torch.where(inside, x, 0.0)), 0.0)
    wanted = inside if terms.maxima else torch.zeros_like(inside)
    largest = torch.where(wanted, x.detach(), -math.inf).amax(1)
    return value.sum(1), (value.detach() > 0).sum(1), largest


def masked_logsumexp(z: Float[Tensor, "n m"], inside: Bool[Tensor, "n m"]) -> Float[Tensor, "n"]:
    """Row-wise log-sum-exp of the admitted entries, -inf and no gradient for a row without any."""
    some = inside.any(1)
    filled = torch.where(inside, z, -math.inf)
    total = torch.logsumexp(torch.where(some[:, None], filled, 0.0), dim=1)
    return torch.where(some, total, -math.inf)
