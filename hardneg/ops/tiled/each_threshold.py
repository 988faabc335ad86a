"""Every score of a block under every threshold of its row, one threshold after the other."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from hardneg.ops.grid import chunks
from hardneg.ops.tiled.admission import excluded_value
from hardneg.ops.tiled.penalty_sum import apply_penalty
from hardneg.penalties import Hinge, Penalty

if TYPE_CHECKING:
    from jaxtyping import Float

__all__ = ["one_by_one"]

CACHED_ELEMENTS = 1 << 16


def one_by_one(
    penalty: Penalty,
    negatives: Float[Tensor, "r m"],
    thresholds: Float[Tensor, "r p"],
    ceilings: Float[Tensor, "r p"] | None,
    weights: Float[Tensor, "r p"] | None,
) -> tuple[Tensor, Tensor, Tensor | None, Tensor | None]:
    """Pair sums, pair counts, and with weights the weight of every negative and the slope sum of every pair.

    A few rows at a time, so that what a threshold needs stays in the cache for the next one.
    """
    sums, counts, slopes = (torch.zeros_like(thresholds) for _ in range(3))
    total = None if weights is None else torch.zeros_like(negatives)
    never = excluded_value(negatives.dtype)
    for rows in chunks(len(negatives), max(1, CACHED_ELEMENTS // negatives.shape[1])):
        mine, x = negatives[rows], torch.empty_like(negatives[rows])
        for p in range(thresholds.shape[1]):
            torch.sub(mine, thresholds[rows, p, None], out=x)
            if ceilings is not None:
                x.masked_fill_(mine >= ceilings[rows, p, None], -never)
            with_slope = weights is not None
            sums[rows, p], counts[rows, p], slope = apply_penalty(penalty, x, 1, with_slope)
            if total is not None and weights is not None and slope is not None:
                hinge = type(penalty) is Hinge
                slopes[rows, p] = counts[rows, p] if hinge else slope.sum(1)
                total[rows].addcmul_(slope, weights[rows, p, None])
    return sums, counts, total, slopes
