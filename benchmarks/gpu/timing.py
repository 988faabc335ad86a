"""A contender on a device, with the most memory that a step holds."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from benchmarks.case import Contender
from benchmarks.memory import MIB
from benchmarks.timing import Runner

SAMPLE_SECONDS = 0.02
MOST_CALLS = 200


@dataclass
class DeviceRunner(Runner):
    """A runner and its peak of memory.

    Attributes:
        peak_mib: most memory beyond the inputs and their gradients; None on a CPU.
        total_mib: most memory in all.
    """

    peak_mib: float | None = None
    total_mib: float | None = None

    @classmethod
    def warmed_up(cls, contender: Contender, inputs: tuple[Tensor, ...]) -> DeviceRunner:
        """Three calls: kernels compile in the first, the second shows the memory, the third the time."""
        ready = cls(contender, contender.make(), inputs)
        if ready.device == "cuda":
            ready.run()
            ready.forget()
            ready.measure_memory()
        ready.sample()
        fit = round(SAMPLE_SECONDS / max(ready.seconds[0], 1e-7))
        ready.calls = min(MOST_CALLS, max(1, fit))
        ready.seconds.clear()
        return ready

    def measure_memory(self) -> None:
        """One step; what the gradients of the inputs take is not counted as its peak."""
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
