"""What a score beyond its threshold costs: phi(x), x = score - threshold, and its slope."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Literal, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from hardneg.checks import resolve_name

__all__ = [
    "Hinge",
    "Identity",
    "Logistic",
    "Penalty",
    "PenaltyName",
    "SquaredHinge",
    "resolve_penalty",
]


def softplus(x: Tensor) -> Tensor:
    """``log(1 + exp(x))``, linear only from 40 on, where float64 cannot tell (torch's default is 20)."""
    return F.softplus(x, threshold=40)


@dataclass(frozen=True)
class Hinge:
    """``max(0, x)``; at exactly 0 the gradient is 0."""

    code: ClassVar[str] = "hinge"

    def value(self, x: Tensor) -> Tensor:
        """phi(x)."""
        return x.relu()

    def slope(self, x: Tensor) -> Tensor:
        """phi'(x)."""
        return torch.gt(x, 0, out=torch.empty_like(x))  # much faster on a CPU than by a mask


@dataclass(frozen=True)
class SquaredHinge:
    """``max(0, x) ** 2``."""

    code: ClassVar[str] = "squared_hinge"

    def value(self, x: Tensor) -> Tensor:
        """phi(x)."""
        return x.relu().square()

    def slope(self, x: Tensor) -> Tensor:
        """phi'(x)."""
        above = x.relu()
        return above + above


@dataclass(frozen=True)
class Logistic:
    """``log(1 + exp(x))``, the soft margin (Hermans et al., 2017) and the sigmoid loss's term."""

    code: ClassVar[str] = "logistic"

    def value(self, x: Tensor) -> Tensor:
        """phi(x)."""
        return softplus(x)

    def slope(self, x: Tensor) -> Tensor:
        """phi'(x)."""
        return x.sigmoid()


@dataclass(frozen=True)
class Identity:
    """x itself: a plain sum of scores (the mean positive score of SupCon)."""

    code: ClassVar[str] = "identity"

    def value(self, x: Tensor) -> Tensor:
        """phi(x)."""
        return x

    def slope(self, x: Tensor) -> Tensor:
        """phi'(x)."""
        return x.new_ones(()).expand_as(x)


class Penalty(Protocol):
    """An elementwise function, 0 far below 0, and its slope. Yours is a frozen dataclass with these methods."""

    def value(self, x: Tensor) -> Tensor:
        """phi(x)."""

    def slope(self, x: Tensor) -> Tensor:
        """phi'(x)."""


PenaltyName = Literal["hinge", "squared_hinge", "logistic"]

BY_NAME: dict[str, Penalty] = {
    "hinge": Hinge(),
    "squared_hinge": SquaredHinge(),
    "logistic": Logistic(),
    "identity": Identity(),
}


def is_builtin(penalty: Penalty) -> bool:
    """Whether it is one of the objects above, which operators and kernels know by name."""
    return type(penalty) in (Hinge, SquaredHinge, Logistic, Identity)


VANISHING = Hinge, SquaredHinge, Logistic
"""Those of them that are 0 far below the threshold, where pairs stand that take no part."""

OF_LOSSES: dict[str, Penalty] = {k: BY_NAME[k] for k in ("hinge", "squared_hinge", "logistic")}


def resolve_penalty(penalty: Any) -> Penalty:
    """A penalty from its name, or an object with ``value`` and ``slope``, yours too.

    Raises:
        ValueError: for an unknown name; for an object whose value or slope is not 0 far below the threshold,
            where pairs stand that take no part.
        TypeError: for anything else.
    """
    if isinstance(penalty, str):
        return resolve_name("penalty", penalty, OF_LOSSES)
    methods = (getattr(penalty, name, None) for name in ("value", "slope"))
    if isinstance(penalty, type) or not all(callable(method) for method in methods):
        raise TypeError(
            f"penalty is {penalty!r} of type {type(penalty).__name__}: expected a name "
            f"({', '.join(sorted(OF_LOSSES))}), or an object with the methods value(x) and slope(x)"
        )
    if not is_builtin(penalty):
        lowest = torch.tensor(torch.finfo(torch.float32).min)
        if penalty.value(lowest) != 0 or penalty.slope(lowest) != 0:
            raise ValueError(
                f"penalty {penalty!r} is not 0 far below its threshold: pairs that take no part stand there, so "
                "value and slope of the lowest number must be 0"
            )
    found: Penalty = penalty
    return found
