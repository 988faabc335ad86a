"""Compile kernels for a GPU that is not there: what a machine without one can know of them.

Inside ``compiling_for(90)`` a launch compiles its kernel with the arguments, constants and
configuration of that very launch, through Triton's own path, and writes down what came of it. Nothing
runs, so the results of an operator are whatever its buffers held.
"""

from __future__ import annotations

import re
import subprocess
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any

import torch
import triton
import triton.language as tl
from triton.backends.compiler import GPUTarget
from triton.runtime import driver

__all__ = ["Compiled", "Filler", "Recorder", "active_recorder", "compiling_for"]

WARP = 32
SHARED_LIMIT = {80: 163 * 1024, 90: 227 * 1024, 120: 99 * 1024}
"""Bytes of shared memory that one block may have (CUDA C++ Programming Guide, compute capabilities)."""


@dataclass(frozen=True)
class Compiled:
    """What the compiler made of one launch.

    Attributes:
        kernel: its name.
        capability: 80, 90 or 120.
        types: type of every argument that is not a compile-time constant, ``"*bf16"`` or ``"i32"``.
        constants: compile-time constants by name, ``"panel.WIDTH"`` inside a tuple; functions by theirs.
        warps, stages: of the configuration.
        registers: of each thread.
        stack: bytes of each thread; what did not fit into registers is spilled there.
        shared: bytes of each block.
        tensor_cores: ``"wgmma"``, ``"mma.sync"`` or ``""``.
        pipelined: whether tiles are copied while others are multiplied.
        digest: of its source and of all that it was compiled for.
    """

    kernel: str
    capability: int
    types: tuple[str, ...]
    constants: tuple[tuple[str, Any], ...]
    warps: int
    stages: int
    registers: int
    stack: int
    shared: int
    tensor_cores: str
    pipelined: bool
    digest: str


@dataclass(frozen=True)
class AbsentGPU:
    """What Triton asks of the active driver when it compiles; its device number is its capability."""

    capability: int

    def get_current_target(self) -> GPUTarget:
        """The architecture."""
        return GPUTarget("cuda", self.capability, WARP)

    def get_current_device(self) -> int:
        """A number of its own, so that Triton keeps what it compiles here apart."""
        return self.capability

    def get_current_stream(self, device: int) -> int:
        """The default one."""
        return 0

    def get_active_torch_device(self) -> torch.device:
        """Where the arguments are."""
        return torch.device("cpu")


@dataclass
class Recorder:
    """What the launches inside ``compiling_for`` came to, one entry for each distinct kernel."""

    capability: int
    compiled: list[Compiled] = field(default_factory=list)

    def compile(self, kernel: Any, arguments: Mapping[str, Any], options: dict[str, Any]) -> None:
        """Compile as a launch with these arguments (constants among them) and options would."""
        made = kernel.warmup(grid=(1,), **arguments, **options)
        entry = self.entry(kernel, made, arguments)
        if entry not in self.compiled:
            self.compiled.append(entry)

    def entry(self, kernel: Any, made: Any, arguments: Mapping[str, Any]) -> Compiled:
        """The facts of a compiled kernel."""
        ptx = made.asm["ptx"]
        registers, stack = resources(made.asm["cubin"])
        return Compiled(
            made.metadata.name,
            self.capability,
            tuple(flat(made.src.signature.values())),
            tuple(sorted(constants(kernel, arguments))),
            made.metadata.num_warps,
            made.metadata.num_stages,
            registers,
            stack,
            made.metadata.shared,
            next((name for name in ("wgmma", "mma.sync") if name in ptx), ""),
            "cp.async" in ptx,
            made.hash,
        )


ACTIVE: ContextVar[Recorder | None] = ContextVar("ACTIVE", default=None)


def active_recorder() -> Recorder | None:
    """The recorder of the surrounding ``compiling_for``; None outside."""
    return ACTIVE.get()


class Filler(Recorder):
    """Compiles for Triton's cache alone, whose entries may lack all but the machine code, and looks at nothing."""

    def compile(self, kernel: Any, arguments: Mapping[str, Any], options: dict[str, Any]) -> None:
        """Compile as a launch with these arguments (constants among them) and options would."""
        kernel.warmup(grid=(1,), **arguments, **options)


@contextmanager
def compiling_for(capability: int, kind: type[Recorder] = Recorder) -> Iterator[Recorder]:
    """Compile instead of launching, for a GPU of this compute capability, 80, 90 or 120.

    Args:
        capability: ten times the major number plus the minor one.
        kind: what becomes of the compiled kernels.

    Raises:
        ValueError: for another capability.
    """
    if capability not in SHARED_LIMIT:
        raise ValueError(
            f"capability is {capability}: expected one of {', '.join(map(str, SHARED_LIMIT))}"
        )
    recorder = kind(capability)
    token = ACTIVE.set(recorder)
    driver.set_active(AbsentGPU(capability))
    try:
        yield recorder
    finally:
        driver.set_active(None)  # Triton looks for the machine's own when it next needs one
        ACTIVE.reset(token)


def constants(kernel: Any, arguments: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """Compile-time constants of a launch, those inside tuples too."""
    for parameter in kernel.params:
        value = arguments.get(parameter.name)
        if parameter.is_constexpr and value is not None:
            yield parameter.name, value
        elif isinstance(value, tuple):
            yield from inside(value, parameter.name)


def inside(value: tuple[Any, ...], prefix: str) -> Iterator[tuple[str, Any]]:
    """Constants and functions of a tuple."""
    for name, part in zip(getattr(value, "_fields", range(len(value))), value, strict=True):
        if isinstance(part, tuple):
            yield from inside(part, f"{prefix}.{name}")
        elif isinstance(part, tl.constexpr):
            yield f"{prefix}.{name}", part.value
        elif isinstance(part, triton.JITFunction):
            yield f"{prefix}.{name}", part.__name__


def flat(types: Iterable[Any]) -> Iterator[str]:
    """The argument types without the constants, those inside tuples too."""
    for kind in types:
        if not isinstance(kind, str):
            yield from flat(kind)
        elif kind != "constexpr":
            yield kind


def resources(cubin: bytes) -> tuple[int, int]:
    """Registers and stack bytes of a thread, as the tool beside Triton's assembler reads them."""
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(cubin)
        file.flush()
        tool = triton.knobs.nvidia.cuobjdump.path
        words = [tool, "--dump-resource-usage", file.name]
        text = subprocess.run(words, capture_output=True, text=True, check=True).stdout
    found = re.search(r"REG:(\d+) STACK:(\d+)", text)
    assert found, f"cuobjdump said {text!r}"
    return int(found[1]), int(found[2])
