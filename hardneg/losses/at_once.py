"""A loss of a small batch in one step, where its scores know it as a whole."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from hardneg.losses.call import Call
from hardneg.negatives import Negatives
from hardneg.ops.backends import for_whole_losses
from hardneg.ops.comparison import Comparison
from hardneg.ops.loss_requests import LossRequest
from hardneg.ops.own import OwnNegatives

if TYPE_CHECKING:
    from hardneg.losses.base import Loss

__all__ = ["at_once"]

KNOWN = ("mean", "sum", "mean_active")
"""Reductions that are one step."""


def at_once(
    loss: Loss,
    comparison: Comparison,
    negatives: Negatives,
    statistics: bool,
    own: OwnNegatives | None = None,
) -> Tensor | None:
    """The finished loss; None where it is made of reductions.

    So it is under a compiler, which joins steps itself, and with a range of scores, which no step knows.
    """
    if torch.compiler.is_compiling() or statistics or loss.reduction not in KNOWN:
        return None
    if negatives.ranged or not says_whole(type(loss)):
        return None
    small = for_whole_losses(loss.backend, comparison)
    if small is None:
        return None
    call = Call(small, negatives, loss.reduction, loss.directions, statistics)
    request: LossRequest | None = loss.whole(call)  # type: ignore[operator]
    if request is None:
        return None
    return small.loss(request) if own is None else small.loss_beside(own, request)


@cache
def says_whole(kind: type) -> bool:
    """Whether a class of losses has a method ``whole``, which makes one request of its equation.

    A subclass that overrides a method of its equation has another one.
    """
    owner = next((x for x in kind.__mro__ if "whole" in vars(x)), None)
    if owner is None:
        return False
    later = kind.__mro__[: kind.__mro__.index(owner)]
    methods = (name for name, value in vars(owner).items() if callable(value))
    equation = {name for name in methods if not name.startswith("__")}
    return not any(equation & vars(subclass).keys() for subclass in later)
