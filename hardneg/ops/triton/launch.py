"""The only place from which kernels are launched, or compiled for a GPU that is not there."""

from __future__ import annotations

import functools
from collections.abc import Hashable, Iterable, Iterator
from contextlib import nullcontext
from typing import Any

import torch
import triton
from torch import Tensor
from torch.nn import Parameter
from triton.language import constexpr

from hardneg.ops.triton.ahead_of_time import active_recorder
from hardneg.ops.triton.arguments import Tile, constant
from hardneg.ops.triton.tuning import Configuration, Limited

__all__ = ["INTERPRETED", "architecture", "blocks_of", "launch", "programs"]

INTERPRETED: bool = bool(triton.knobs.runtime.interpret)
"""Whether kernels run in Triton's interpreter; settled when they were decorated, so for the whole process."""

ROOMY = (9, 10)
"""Major capabilities with 227 KiB of shared memory a block; the tiles of sm_80 fit 99 KiB too (8.6, 8.9, 12.0)."""

LARGEST_INT32 = 2**31 - 1

BUSY = 2 * 132
"""Programs that keep a GPU busy: two for each multiprocessor of an H100."""


def architecture(device: torch.device) -> str:
    """The rows of the table of configurations: ``"sm_80"``, ``"sm_90"`` or ``"interpreter"``."""
    recorder = active_recorder()
    if recorder is not None:
        major = recorder.capability // 10
    elif INTERPRETED:
        return "interpreter"
    else:
        major, _ = torch.cuda.get_device_capability(device)
    return "sm_90" if major in ROOMY else "sm_80"


def programs(device: torch.device) -> int:
    """How many programs to divide work among; few in the interpreter, where they run in turn."""
    return 4 if architecture(device) == "interpreter" else BUSY


def blocks_of(size: int, count: int) -> int:
    """How many blocks of a size cover so many; ``triton.cdiv`` takes ten times as long."""
    return -(-count // size)


def launch(
    kernel: Any,
    grid: tuple[int, ...],
    configuration: Configuration,
    *arguments: Any,
    **constants: Any,
) -> None:
    """Run a kernel on the device of its first tensor; inside ``compiling_for`` compile it instead.

    The configuration adds the ``tile`` of a kernel that takes one. An empty grid is no launch.
    """
    if 0 in grid:
        return
    given = dict(zip(kernel.arg_names, arguments, strict=False)) | constants
    if "tile" in kernel.arg_names:
        given["tile"] = tile_of(configuration)
    recorder = active_recorder()
    if recorder is not None:
        recorder.compile(kernel, given, options(configuration))
    elif INTERPRETED:  # which takes no options
        kernel[grid](**given)
    else:
        run(kernel, grid, configuration, given)


def run(
    kernel: Any, grid: tuple[int, ...], configuration: Configuration, given: dict[str, Any]
) -> None:
    """Run it compiled: at first through Triton, which compiles; then through what came of that."""
    device = next(tensors(given.values())).device
    # a tensor's device need not be the current one
    elsewhere = torch.cuda.current_device() != device.index
    with torch.cuda.device(device) if elsewhere else nullcontext():
        values = [given[name] for name in kernel.arg_names]
        key = id(kernel), configuration, device.index, *specialization(kernel, values)
        compiled = COMPILED.get(key)
        if compiled is None:
            COMPILED[key] = kernel[grid](**given, **options(configuration))
        else:
            compiled[(*grid, 1, 1)](*values)


COMPILED: dict[Hashable, Any] = {}
"""What Triton has compiled, by what it was compiled for: Triton's own look-up takes twice as long."""


def specialization(kernel: Any, values: list[Any]) -> list[Hashable]:
    """What Triton compiles a kernel for, given these values."""
    key: list[Hashable] = []
    for parameter, value in zip(kernel.params, values, strict=True):
        if parameter.is_constexpr:
            key.append(value)
        elif parameter.do_not_specialize:
            key.append(value.dtype if isinstance(value, Tensor) else value > LARGEST_INT32)
        else:
            add_specialization(key, (value,))
    return key


def add_specialization(key: list[Hashable], values: tuple[Any, ...]) -> None:
    """Add what Triton compiles values for: constants, types, and which are 1 or multiples of 16."""
    for value in values:
        kind = type(value)
        if kind is int:
            key.append(int if value == 1 else (value & 15 == 0) + 2 * (value > LARGEST_INT32))
        elif kind is Tensor or kind is Parameter:
            key.append(value.dtype)
            key.append(value.data_ptr() & 15 == 0)
        elif kind is constexpr:
            key.append(value.value)
        elif value is None:
            key.append(None)
        elif kind is float:
            key.append(float)
        elif isinstance(value, tuple):
            add_specialization(key, value)
        elif isinstance(value, Tensor):
            key.append(value.dtype)
            key.append(value.data_ptr() & 15 == 0)
        else:  # functions, which what was compiled keeps alive; flags and text
            key.append(value if kind in (bool, str) else id(value))


def tensors(values: Iterable[Any]) -> Iterator[Tensor]:
    """Those among the values, inside tuples too."""
    for value in values:
        if isinstance(value, Tensor):
            yield value
        elif isinstance(value, tuple):
            yield from tensors(value)


@functools.cache
def tile_of(configuration: Configuration) -> Tile:
    """What a kernel sees of its configuration."""
    sizes = configuration.rows, configuration.columns, configuration.depth
    return Tile(*(constant(size) for size in sizes))


@functools.cache
def options(configuration: Configuration) -> dict[str, Any]:
    """What the compiler is told; fused multiply-adds explicitly, since Triton's default changes in 3.10."""
    warps, stages = configuration.warps, configuration.stages
    told: dict[str, Any] = {"num_warps": warps, "num_stages": stages, "enable_fp_fusion": True}
    if isinstance(configuration, Limited):
        told["maxnreg"] = configuration.registers
    return told
