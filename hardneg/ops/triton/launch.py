"""The only place from which kernels are launched, or compiled for a GPU that is not there.

Inside ``compiling_for(capability)`` nothing runs: every launch is compiled for that architecture instead,
with the argument types, constants and configuration that the caller would have run, so the ordinary
operators on small CPU tensors say whether their kernels compile, and into what.
"""

from __future__ import annotations

import contextlib
import re
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from contextvars import ContextVar
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
import triton
from torch import Tensor
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from hardneg.ops.triton.tuning import Configuration

__all__ = ["INTERPRETED", "Compiled", "architecture", "compiling_for", "launch", "programs"]

INTERPRETED: bool = bool(triton.knobs.runtime.interpret)
"""Whether kernels run in Triton's interpreter; settled when they were decorated, so for the whole process."""

POINTER_TYPES = {
    torch.float16: "*fp16",
    torch.bfloat16: "*bf16",
    torch.float32: "*fp32",
    torch.float64: "*fp64",
    torch.int64: "*i64",
    torch.int32: "*i32",
    torch.bool: "*i1",
}
ALIGNMENT = 16


@dataclass(frozen=True, eq=False)
class Compiled:
    """What a kernel compiled to.

    Attributes:
        kernel: its name.
        capability: 80, 90 ...
        configuration: tile, warps and stages.
        constants: its compile-time arguments.
        shared: bytes of shared memory a program.
        ptx: the assembly.
        cubin: the machine code.
    """

    kernel: str
    capability: int
    configuration: Configuration
    constants: dict[str, Any]
    shared: int
    ptx: str = field(repr=False)
    cubin: bytes = field(repr=False)

    @property
    def tensor_cores(self) -> bool:
        """Whether products go to the tensor cores."""
        return "wgmma.mma_async" in self.ptx or "mma.sync" in self.ptx

    @cached_property
    def resources(self) -> dict[str, int]:
        """Registers a thread (``REG``), bytes of stack and local memory (``STACK``, ``LOCAL``: spills)."""
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / "kernel.cubin"
            file.write_bytes(self.cubin)
            tool = Path(triton.__file__).parent / "backends" / "nvidia" / "bin" / "cuobjdump"
            command = [str(tool), "--dump-resource-usage", str(file)]
            said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
        return {name: int(value) for name, value in re.findall(r"\b([A-Z]+):(\d+)", said)}


@dataclass(frozen=True, eq=False)
class Target:
    """What is compiled for, and what has been compiled so far."""

    capability: int
    compiled: dict[Any, Compiled]


TARGET: ContextVar[Target | None] = ContextVar("target", default=None)


@contextlib.contextmanager
def compiling_for(capability: int) -> Iterator[dict[Any, Compiled]]:
    """Compile instead of launching, for compute capability 80, 90 ...; gives what is compiled.

    The operators' results hold arbitrary numbers meanwhile.
    """
    assert not INTERPRETED, "the interpreter's kernels cannot be compiled: unset TRITON_INTERPRET"
    found: dict[Any, Compiled] = {}
    token = TARGET.set(Target(capability, found))
    try:
        yield found
    finally:
        TARGET.reset(token)


def architecture(device: torch.device) -> str:
    """The row of the table of configurations: ``"sm_80"``, ``"sm_90"`` or ``"interpreter"``."""
    target = TARGET.get()
    if target is not None:
        return "sm_90" if target.capability >= 90 else "sm_80"
    if INTERPRETED:
        return "interpreter"
    return "sm_90" if torch.cuda.get_device_capability(device) >= (9, 0) else "sm_80"


def programs(device: torch.device) -> int:
    """How many programs keep a GPU busy: two for each multiprocessor of the largest."""
    return 4 if architecture(device) == "interpreter" else 264


def launch(
    kernel: Any,
    grid: tuple[int, ...],
    arguments: Mapping[str, Any],
    configuration: Configuration,
) -> None:
    """Run a kernel on the device of its first tensor, or compile it where that was asked for.

    ``arguments`` are by name, compile-time ones among them; the configuration adds those of its blocks that
    the kernel names (``BLOCK_ROWS`` ...). An empty grid is no launch.
    """
    if 0 in grid:
        return
    given = dict(arguments)
    for name, size in configuration.blocks.items():
        if name in kernel.arg_names:
            given[name] = size
    target = TARGET.get()
    if target is not None:
        compile_ahead(kernel, given, configuration, target)
        return
    first = next(value for value in given.values() if isinstance(value, Tensor))
    # the interpreter takes no options; on a GPU the tensors' device need not be the current one
    if INTERPRETED:
        kernel[grid](**given)
        return
    with torch.cuda.device_of(first):
        kernel[grid](**given, **options(configuration))


def options(configuration: Configuration) -> dict[str, Any]:
    """What the compiler is told; fused multiply-adds explicitly, since Triton's default changes in 3.10."""
    warps, stages = configuration.warps, configuration.stages
    return {"num_warps": warps, "num_stages": stages, "enable_fp_fusion": True}


def compile_ahead(
    kernel: Any, given: Mapping[str, Any], configuration: Configuration, target: Target
) -> None:
    """Compile one kernel as Triton would for these arguments."""
    signature, constants, attributes = specialised(kernel, given)
    key = (kernel.__name__, str(signature), str(constants), str(attributes), configuration)
    if key in target.compiled:
        return
    source = ASTSource(kernel, signature, constants, attributes)
    gpu = GPUTarget("cuda", target.capability, 32)
    made = triton.compile(source, target=gpu, options=options(configuration))
    target.compiled[key] = Compiled(
        kernel.__name__,
        target.capability,
        configuration,
        constants,
        made.metadata.shared,
        made.asm["ptx"],
        made.asm["cubin"],
    )


def specialised(
    kernel: Any, given: Mapping[str, Any]
) -> tuple[dict[str, str], dict[str, Any], dict[tuple[int, ...], Any]]:
    """Types, constants and alignments of the arguments, by Triton's own rules for a launch."""
    signature: dict[str, str] = {}
    constants: dict[str, Any] = {}
    attributes: dict[tuple[int, ...], Any] = {}
    for place, parameter in enumerate(kernel.params):
        name = parameter.name
        value = given.get(name, parameter.default)
        kind = type_of(value, parameter.is_constexpr)
        signature[name] = kind
        if kind == "constexpr":
            constants[name] = value
        elif isinstance(value, Tensor) or (isinstance(value, int) and value % ALIGNMENT == 0):
            attributes[(place,)] = [["tt.divisibility", ALIGNMENT]]
    return signature, constants, attributes


def type_of(value: Any, constant: bool) -> str:
    """Triton's name for the type of a launch argument."""
    if constant or value is None or value is True or value is False:
        return "constexpr"
    if isinstance(value, Tensor):
        return POINTER_TYPES[value.dtype]
    if isinstance(value, float):
        return "fp32"
    if value == 1:
        return "constexpr"
    return "i32" if -(2**31) <= value < 2**31 else "i64"
