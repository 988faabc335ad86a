"""Which negatives to use at which step. A schedule is asked by the training loop; losses count no steps.

``loss(images, captions, negatives=schedule(step))``
"""

from __future__ import annotations

import sys
from bisect import bisect_right
from dataclasses import dataclass

from hardneg.checks import check_count, count_field
from hardneg.negatives.strategies import Negatives

__all__ = ["Steps", "Warmup"]


def check_strategy(argument: str, value: object) -> None:
    """A strategy object."""
    if not isinstance(value, Negatives):
        raise TypeError(f"{argument} is {value!r}: expected a strategy object such as Hardest()")


@dataclass(frozen=True)
class Warmup:
    """``before`` for the first ``steps`` steps, then ``after``: ``Warmup(All(), Hardest(), steps=1000)``.

    The usual cure where max of hinges does not leave its plateau.
    """

    before: Negatives
    after: Negatives
    steps: int

    def __post_init__(self) -> None:
        count_field(self, "steps", at_least=0)
        check_strategy("before", self.before)
        check_strategy("after", self.after)

    def __call__(self, step: int) -> Negatives:
        """The strategy of this step, counted from 0."""
        step = check_count("step", step, at_least=0)
        return self.before if step < self.steps else self.after


@dataclass(frozen=True)
class Steps:
    """Any number of stages: ``Steps((0, All()), (1000, TopK(8)), (5000, Hardest()))``.

    Args:
        stages: (first step, strategy), first steps rising from 0.
    """

    stages: tuple[tuple[int, Negatives], ...]

    def __init__(self, *stages: tuple[int, Negatives]) -> None:
        for stage in stages:
            if not isinstance(stage, tuple) or len(stage) != 2:
                raise TypeError(f"stages contain {stage!r}: expected pairs (first step, strategy)")
            check_strategy("strategy of a stage", stage[1])
        lowest = -sys.maxsize  # that they rise from 0 is checked, and said, for all of them at once
        starts = [check_count("first step of a stage", start, lowest) for start, _ in stages]
        if not starts or starts[0] != 0 or starts != sorted(set(starts)):
            raise ValueError(f"stages start at steps {starts}: expected rising steps from 0")
        object.__setattr__(self, "stages", tuple(zip(starts, (s for _, s in stages), strict=True)))

    def __call__(self, step: int) -> Negatives:
        """The strategy of this step, counted from 0."""
        step = check_count("step", step, at_least=0)
        return self.stages[bisect_right([start for start, _ in self.stages], step) - 1][1]
