"""Where the checks run, and what a row says about that."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

from benchmarks.machine import installed, setting
from hardneg.ops.comparison import Comparison
from hardneg.ops.scores import Backend, Scores


@dataclass(frozen=True)
class Place:
    """A device, who computes there, and at which size.

    Attributes:
        device: ``"cuda"``, or ``"cpu"`` where Triton's interpreter runs the kernels.
        small: tiny shapes, for the interpreter.
        backend: ``"triton"``; another one checks the checks; ``"compile"`` compiles the kernels for sm_90 in place of
            launching them, inside ``compiling_for``.
    """

    device: str = "cuda"
    small: bool = False
    backend: str = "triton"

    def reductions(self) -> Backend:
        """Who carries the reductions out."""
        if self.backend in ("triton", "compile"):
            from hardneg.ops.fused_backend import Fused

            return Fused()
        from hardneg import Tiled

        return Tiled((5, 7) if self.small else None)

    def loss(self, make: Callable[[Any], Any]) -> Any:
        """A loss by that backend."""
        backend = AnyDevice() if self.backend == "compile" else self.backend
        return make(backend).to(self.device)

    def whole(self) -> Any:
        """What computes whole losses of small batches: ``"auto"`` on a GPU, elsewhere told to take the kernels."""
        from hardneg.ops.small.backend import Small

        if self.device == "cuda":
            return "auto"
        return Small(kernels=self.backend in ("triton", "compile"), others=self.backend == "tiled")

    @property
    def compiler(self) -> str:
        """What ``torch.compile`` uses; a CPU only traces, since making code takes it too long."""
        return "inductor" if self.device == "cuda" else "eager"

    def synchronize(self) -> None:
        """Wait for the device, so that an error shows where it was made."""
        if self.device == "cuda":
            torch.cuda.synchronize()


@dataclass(frozen=True)
class AnyDevice:
    """The kernels for tensors that are on no GPU: they are compiled, not launched."""

    def scores(self, comparison: Comparison) -> Scores:
        """Scores whose reductions launch kernels."""
        from hardneg.ops.fused_backend import Fused

        return Fused().scores(comparison)


def without_gpu() -> str:
    """Why nothing can be measured here; empty: it can."""
    if not torch.cuda.is_available():
        return (
            f"no CUDA device: torch {torch.__version__} finds none, so there is nothing to measure"
        )
    if torch.cuda.get_device_capability() < (8, 0):
        name, found = torch.cuda.get_device_name(), torch.cuda.get_device_capability()
        return f"{name} has compute capability {found}: the kernels need 8.0 (Ampere) or higher"
    if not installed("triton"):
        return "Triton is not installed: pip install triton"
    return ""


def driver() -> str:
    """Version of the NVIDIA driver, as its tool says it; empty where the tool is missing."""
    words = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    try:
        found = subprocess.run(words, capture_output=True, text=True, check=True, timeout=20)
    except (OSError, subprocess.SubprocessError):
        return ""
    return found.stdout.split("\n")[0].strip()


def gpu_setting() -> dict[str, object]:
    """Date, versions, commit, device and driver."""
    about = setting(torch.get_num_threads())
    about.update(triton=installed("triton"), cuda=torch.version.cuda, driver=driver())
    if torch.cuda.is_available():
        shown = torch.cuda.get_device_properties(0)
        about.update(
            device=shown.name,
            capability=f"{shown.major}.{shown.minor}",
            multiprocessors=shown.multi_processor_count,
            memory_gib=round(shown.total_memory / 2**30, 1),
        )
    return about
