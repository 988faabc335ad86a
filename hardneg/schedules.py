"""Which negatives to use at which step. A schedule is asked by the training loop; losses count no steps.

``loss(images, captions, negatives=schedule(step))``
"""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass

from hardneg.checks import check_count
from hardneg.negatives import Negatives

__all__ = ["Steps", "Warmup"]


@dataclass(frozen=True)
class Warmup:
    """``before`` for the first ``steps`` steps, then ``after``: ``Warmup(All(), Hardest(), steps=1000)``.

    The usual cure where max of hinges does not leave its plateau.
    """

    before: Negatives
    after: Negatives
    steps: int

    def __post_init__(self) -> None:
        check_count("steps", self.steps, at_least=0)

    def __call__(self, step: int) -> Negatives:
        """The strategy of this step, counted from 0."""
        return self.before if step < self.steps else self.after


@dataclass(frozen=True)
class Steps:
    """Any number of stages: ``Steps((0, All()), (1000, TopK(8)), (5000, Hardest()))``.

    Args:
        stages: (first step, strategy), first steps rising from 0.
    """

    stages: tuple[tuple[int, Negatives], ...]

    def __init__(self, *stages: tuple[int, Negatives]) -> None:
        starts = [start for start, _ in stages]
        if not starts or starts[0] != 0 or starts != sorted(set(starts)):
            raise ValueError(f"stages start at steps {starts}: expected rising steps from 0")
        object.__setattr__(self, "stages", tuple(stages))

    def __call__(self, step: int) -> Negatives:
        """The strategy of this step, counted from 0."""
        return self.stages[bisect_right([start for start, _ in self.stages], step) - 1][1]
