"""What enters a log-sum-exp in place of the score: an elementwise function given as value and declared slope."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

__all__ = ["CircleNegative", "CirclePositive", "Energy", "Linear"]


def with_slope(score: Tensor, value: Tensor, slope: Tensor) -> Tensor:
    """A value whose derivative is declared, not derived: what is added is 0."""
    return value.detach() + slope.detach() * (score - score.detach())


@dataclass(frozen=True)
class Linear:
    """``factor * (score - base)``."""

    code: ClassVar[str] = "linear"

    factor: float = 1.0
    base: float = 0.0

    def __call__(self, score: Tensor) -> Tensor:
        """The energy, differentiable."""
        return self.factor * (score - self.base)

    def value(self, score: Tensor) -> Tensor:
        """The energy."""
        return self.factor * (score - self.base)

    def slope(self, score: Tensor) -> Tensor:
        """Its derivative."""
        return score.new_full((), self.factor).expand_as(score)


@dataclass(frozen=True)
class CircleNegative:
    """Circle loss, negatives: ``gamma * w * (s - margin)`` with the weight ``w = max(0, s + margin)`` held constant.

    Sun et al., "Circle Loss", CVPR 2020, section 3.
    """

    code: ClassVar[str] = "circle_negative"
    margin: float = 0.25
    gamma: float = 256.0

    def __call__(self, score: Tensor) -> Tensor:
        """The energy, with the declared slope."""
        held = score.detach()
        return with_slope(score, self.value(held), self.slope(held))

    def value(self, score: Tensor) -> Tensor:
        """The energy."""
        return self.slope(score) * (score - self.margin)

    def slope(self, score: Tensor) -> Tensor:
        """Its declared derivative."""
        return self.gamma * (score + self.margin).relu()


@dataclass(frozen=True)
class CirclePositive:
    """Circle loss, positives: ``-gamma * w * (s - 1 + margin)`` with ``w = max(0, 1 + margin - s)`` held constant."""

    code: ClassVar[str] = "circle_positive"

    margin: float = 0.25
    gamma: float = 256.0

    def __call__(self, score: Tensor) -> Tensor:
        """The energy, with the declared slope."""
        held = score.detach()
        return with_slope(score, self.value(held), self.slope(held))

    def value(self, score: Tensor) -> Tensor:
        """The energy."""
        return self.slope(score) * (score - 1 + self.margin)

    def slope(self, score: Tensor) -> Tensor:
        """Its declared derivative."""
        # a number minus a tensor would make the compiler build a graph for every number
        return -self.gamma * (score - (1 + self.margin)).neg().relu()


Energy = Linear | CircleNegative | CirclePositive

BY_CODE: dict[str, type[Linear] | type[CircleNegative] | type[CirclePositive]] = {
    kind.code: kind for kind in (Linear, CircleNegative, CirclePositive)
}


def is_builtin(energy: Energy) -> bool:
    """Whether it is one of the objects above, which operators and kernels know by name."""
    return type(energy) in (Linear, CircleNegative, CirclePositive)


def parameters(energy: Energy) -> list[float]:
    """Its numbers, in the order in which its type takes them."""
    if isinstance(energy, Linear):
        return [energy.factor, energy.base]
    return [energy.margin, energy.gamma]
