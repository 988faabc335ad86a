"""Times by the device's own clock, and the most memory that a step holds."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor

from benchmarks.cases import Contender
from benchmarks.timing import run_once

MIB = 2**20
SAMPLE_SECONDS = 0.02
MOST_CALLS = 200


def elapsed(work: Callable[[], None], device: str) -> float:
    """Seconds of ``work`` between two CUDA events; on a CPU by the clock, for the tests."""
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
class DeviceRunner:
    """A contender that is ready to run, its seconds a call, one entry a round, and its peak of memory.

    Attributes:
        peak_mib: most memory beyond the inputs and their gradients; None on a CPU.
        total_mib: most memory in all.
    """

    contender: Contender
    step: Callable[..., Tensor]
    inputs: tuple[Tensor, ...]
    calls: int = 1
    seconds: list[float] = field(default_factory=list)
    peak_mib: float | None = None
    total_mib: float | None = None

    @classmethod
    def warmed_up(cls, contender: Contender, inputs: tuple[Tensor, ...]) -> DeviceRunner:
        """Three calls: kernels compile in the first, the second shows the memory, the third the time."""
        ready = cls(contender, contender.make(), inputs)
        ready.run()
        ready.forget()
        ready.measure_memory()
        ready.sample()
        fit = round(SAMPLE_SECONDS / max(ready.seconds[0], 1e-7))
        ready.calls = min(MOST_CALLS, max(1, fit))
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

    def measure_memory(self) -> None:
        """One step; what the gradients of the inputs take is not counted as its peak."""
        if self.device != "cuda":
            self.run()
            return
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        self.run()
        torch.cuda.synchronize()
        highest = torch.cuda.max_memory_allocated()
        gradients = sum(x.grad.nbytes for x in self.inputs if x.grad is not None)
        self.peak_mib = max(0.0, (highest - before - gradients) / MIB)
        self.total_mib = highest / MIB
        self.forget()
