"""Times of several contenders, interleaved so that their ratios hold on a noisy machine."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from statistics import median

import torch
from torch import Tensor

from benchmarks.case import Contender

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


def elapsed(work: Callable[[], None], device: str) -> float:
    """Seconds of ``work`` by the clock; on a GPU between two CUDA events."""
    if device != "cuda":
        started = time.perf_counter()
        work()
        return time.perf_counter() - started
    start, stop = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    start.record()
    work()
    stop.record()
    stop.synchronize()
    return start.elapsed_time(stop) / 1e3


@dataclass
class Runner:
    """A contender that is ready to run, and its seconds a call, one entry a round."""

    contender: Contender
    step: Callable[..., Tensor]
    inputs: tuple[Tensor, ...]
    calls: int = 1
    seconds: list[float] = field(default_factory=list)

    @classmethod
    def warmed_up(cls, contender: Contender, inputs: tuple[Tensor, ...]) -> Runner:
        """Twice, unless once is long; enough calls a sample that the clock does not matter."""
        ready = cls(contender, contender.make(), inputs)
        ready.sample()
        if ready.seconds[0] < 1:
            ready.sample()
        ready.calls = max(1, round(SAMPLE_SECONDS / ready.seconds[-1]))
        ready.seconds.clear()
        return ready

    @property
    def device(self) -> str:
        return self.inputs[0].device.type

    def run(self) -> None:
        for _ in range(self.calls):
            run_once(self.contender, self.step, self.inputs)

    def sample(self) -> None:
        self.seconds.append(elapsed(self.run, self.device) / self.calls)
        self.forget()

    def forget(self) -> None:
        """Drop the gradients."""
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
