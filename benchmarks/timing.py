"""Times of several contenders, interleaved so that their ratios hold on a noisy machine."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from statistics import median

from torch import Tensor

from benchmarks.cases import Contender

SAMPLE_SECONDS = 0.05
MOST_ROUNDS = 50
ROUNDS_SECONDS = 3.0


def run_once(contender: Contender, step: Callable[..., Tensor], inputs: tuple[Tensor, ...]) -> None:
    """One forward pass, and a backward pass where the contender has one; gradients start as None."""
    for x in inputs:
        x.grad = None
    value = step(*inputs)
    if contender.gradient:
        value.backward()


@dataclass
class Runner:
    """A contender that is ready to run, and its seconds a call, one entry a round."""

    contender: Contender
    step: Callable[..., Tensor]
    inputs: tuple[Tensor, ...]
    calls: int
    seconds: list[float]

    @classmethod
    def warmed_up(cls, contender: Contender, inputs: tuple[Tensor, ...]) -> Runner:
        """Twice, unless once is long; enough calls a sample that the clock does not matter."""
        ready = cls(contender, contender.make(), inputs, 1, [])
        ready.sample()
        if ready.seconds[0] < 1:
            ready.sample()
        ready.calls = max(1, round(SAMPLE_SECONDS / ready.seconds[-1]))
        ready.seconds.clear()
        return ready

    def sample(self) -> None:
        started = time.perf_counter()
        for _ in range(self.calls):
            run_once(self.contender, self.step, self.inputs)
        self.seconds.append((time.perf_counter() - started) / self.calls)
        for x in self.inputs:
            x.grad = None


def interleave(runners: list[Runner], repeat: int, limit_seconds: float) -> None:
    """Rounds of one sample each, a different contender first each time.

    At least ``repeat`` rounds, more where they are short; after ``limit_seconds`` no new round
    starts once there are two.
    """
    started = time.perf_counter()
    done = 0
    while True:
        first = done % len(runners)
        for runner in runners[first:] + runners[:first]:
            runner.sample()
        done += 1
        elapsed = time.perf_counter() - started
        if done >= 2 and elapsed > limit_seconds:
            return
        if done >= MOST_ROUNDS or (done >= repeat and elapsed > ROUNDS_SECONDS):
            return


def ratio(runner: Runner, against: Runner) -> float:
    """The median of the ratios within each round."""
    return median(a / b for a, b in zip(runner.seconds, against.seconds, strict=True))
