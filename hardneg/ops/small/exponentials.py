"""Softmax losses of paired rows over all negatives of a small matrix."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor

from hardneg.ops.loss_requests import PairedLoss
from hardneg.ops.small.pairs import FAR, Pairs
from hardneg.ops.small.slopes import Slopes
from hardneg.ops.small.weights import by_margin, margin_of, sides, term_weights
from hardneg.penalties import softplus

if TYPE_CHECKING:
    from jaxtyping import Float

__all__ = ["of_exponentials"]

RANGE = 80.0
"""Exponentials of numbers this close to the largest are ordinary float32 numbers."""


class Exponentials(NamedTuple):
    """Exponentials of the negatives' scores, less a shift.

    Attributes:
        each: one matrix for every direction; the same one where they share it.
        shift: one number for all, or one an anchor; None for 0.
    """

    each: list[Float[Tensor, "n m"]]
    shift: Float[Tensor, "..."] | None


def of_exponentials(
    pairs: Pairs, loss: PairedLoss, gradient: bool, largest: float | None
) -> Slopes:
    """``log(1 + sum of exp(scale * (margin - positive + negative)))`` of every anchor.

    Args:
        largest: what no score, up to its sign, exceeds; None where nothing is known.
    """
    directions, margin = sides(loss), margin_of(loss)
    found = exponentials(pairs, loss, largest)
    matrices = zip(directions, found.each, strict=True)
    sums = torch.stack([pairs.side(each, columns).sum(1) for columns, each in matrices])
    valid = None
    if pairs.excluded is not None:
        valid = torch.stack([x for x in map(pairs.valid, directions) if x is not None])
        sums.clamp_(min=torch.finfo(sums.dtype).tiny)
    x = sums.log()
    if found.shift is not None:
        x.add_(found.shift)
    x.sub_(pairs.beyond(margin))
    values, pull = softplus(x), x.sigmoid_()
    if valid is not None:
        values, pull = values * valid, pull.mul_(valid)
    weights = term_weights(loss, valid, values)
    value = (values * weights).sum()
    if not gradient:
        return Slopes(value)
    pull.mul_(weights)
    by_scores = by_negatives(pairs, directions, found, pull / sums)
    by_scores.diagonal().sub_(pull.sum(0))
    return Slopes(value, by_scores, by_margin(loss, pull))


def exponentials(pairs: Pairs, loss: PairedLoss, largest: float | None) -> Exponentials:
    """Those of both directions less no shift or one, where none gets lost; else less that of every anchor."""
    assert loss.scale is not None
    directions, z = sides(loss), pairs.scores
    known = not isinstance(loss.scale, Tensor) or loss.scale.device.type == "cpu"
    if largest is not None and known and largest * float(loss.scale) <= RANGE / 2:
        return Exponentials([pairs.emptied(z.exp())] * len(directions), None)
    shift = common_shift(z)
    if shift is not None:
        return Exponentials([pairs.emptied((z - shift).exp_())] * len(directions), shift)
    lowered = pairs.lowered(z.clone())
    shifts = [pairs.side(lowered, columns).amax(1) for columns in directions]
    each = [
        (lowered - (pairs.padded(top, FAR) if columns else top[:, None])).exp_()
        for columns, top in zip(directions, shifts, strict=True)
    ]
    return Exponentials(each, torch.stack(shifts))


def common_shift(z: Float[Tensor, "n m"]) -> Float[Tensor, ""] | None:
    """What can be taken off all exponents alike; None where that is not known.

    They are read on a CPU only: elsewhere that would have to be waited for.
    """
    if z.device.type != "cpu":
        return None
    low, high = torch.aminmax(z)
    return high if float(high) - float(low) <= RANGE else None


def by_negatives(
    pairs: Pairs,
    directions: tuple[bool, ...],
    found: Exponentials,
    shares: Float[Tensor, "s n"],
) -> Float[Tensor, "n m"]:
    """The derivatives by the negatives: the shares of their anchors times the exponentials."""
    spread = [
        pairs.padded(share, 0.0) if columns else share[:, None]
        for columns, share in zip(directions, shares, strict=True)
    ]
    if len(spread) == 1:
        return found.each[0] * spread[0]
    if found.each[0] is found.each[1]:
        return found.each[0] * (spread[0] + spread[1])
    return (found.each[0] * spread[0]).addcmul_(found.each[1], spread[1])
