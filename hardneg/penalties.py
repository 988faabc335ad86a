"""What a score beyond its threshold costs: phi(x), x = score - threshold, and its slope."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch.nn.functional as F
from torch import Tensor

from hardneg.checks import resolve_name

__all__ = ["Hinge", "Identity", "Logistic", "Penalty", "SquaredHinge", "Step", "resolve_penalty"]


@dataclass(frozen=True)
class Hinge:
    """``max(0, x)``; at exactly 0 the gradient is 0."""

    code: ClassVar[str] = "hinge"

    def value(self, x: Tensor) -> Tensor:
        """phi(x)."""
        return x.relu()

    def slope(self, x: Tensor) -> Tensor:
        """phi'(x)."""
        return (x > 0).to(x.dtype)


@dataclass(frozen=True)
class SquaredHinge:
    """``max(0, x) ** 2``."""

    code: ClassVar[str] = "squared_hinge"

    def value(self, x: Tensor) -> Tensor:
        """phi(x)."""
        return x.relu().square()

    def slope(self, x: Tensor) -> Tensor:
        """phi'(x)."""
        return 2 * x.relu()


@dataclass(frozen=True)
class Logistic:
    """``log(1 + exp(x))``, the soft margin (Hermans et al., 2017) and the sigmoid loss's term."""

    code: ClassVar[str] = "logistic"

    def value(self, x: Tensor) -> Tensor:
        """phi(x)."""
        return F.softplus(x)

    def slope(self, x: Tensor) -> Tensor:
        """phi'(x)."""
        return x.sigmoid()


@dataclass(frozen=True)
class Step:
    """1 where x > 0: counts the scores above the threshold. Its slope is 0."""

    code: ClassVar[str] = "step"

    def value(self, x: Tensor) -> Tensor:
        """phi(x)."""
        return (x > 0).to(x.dtype)

    def slope(self, x: Tensor) -> Tensor:
        """phi'(x)."""
        return x.new_zeros(()).expand_as(x)


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


Penalty = Hinge | SquaredHinge | Logistic | Step | Identity

BY_NAME: dict[str, Penalty] = {
    "hinge": Hinge(),
    "squared_hinge": SquaredHinge(),
    "logistic": Logistic(),
    "step": Step(),
    "identity": Identity(),
}
OF_LOSSES: dict[str, Penalty] = {k: BY_NAME[k] for k in ("hinge", "squared_hinge", "logistic")}


def resolve_penalty(penalty: Penalty | str) -> Penalty:
    """A penalty from its name or object.

    Raises:
        ValueError: for an unknown name.
    """
    return resolve_name("penalty", penalty, OF_LOSSES)
