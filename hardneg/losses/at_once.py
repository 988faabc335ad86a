"""A loss of a small batch in one step, where its scores know it as a whole."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from hardneg.losses.call import Call
from hardneg.ops.backends import for_whole_losses
from hardneg.ops.comparison import Comparison
from hardneg.ops.loss_requests import LossRequest
from hardneg.ops.small.backend import SmallScores

if TYPE_CHECKING:
    from hardneg.losses.base import Loss

__all__ = ["at_once"]


def at_once(loss: Loss, comparison: Comparison, call: Call) -> Tensor | None:
    """The finished loss; None where it is made of reductions, as always under a compiler, which joins steps itself."""
    if torch.compiler.is_compiling() or call.statistics or call.reduction == "none":
        return None
    if not says_whole(type(loss)):
        return None
    found = call.scores
    small = found if isinstance(found, SmallScores) else for_whole_losses(loss.backend, comparison)
    request: LossRequest | None = None if small is None else loss.whole(call)  # type: ignore[operator]
    return None if small is None or request is None else small.loss(request)


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
