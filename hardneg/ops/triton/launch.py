"""The only place from which kernels are launched, or compiled for a GPU that is not there."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import torch
import triton
from torch import Tensor

from hardneg.ops.triton.ahead_of_time import active_recorder
from hardneg.ops.triton.arguments import Tile, constant
from hardneg.ops.triton.tuning import Configuration

__all__ = ["INTERPRETED", "architecture", "launch", "programs"]

INTERPRETED: bool = bool(triton.knobs.runtime.interpret)
"""Whether kernels run in Triton's interpreter; settled when they were decorated, so for the whole process."""

ROOMY = (9, 10)
"""Major capabilities with 227 KiB of shared memory a block; the tiles of sm_80 fit 99 KiB too (8.6, 8.9, 12.0)."""

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
        sizes = configuration.rows, configuration.columns, configuration.depth
        given["tile"] = Tile(*(constant(size) for size in sizes))
    recorder = active_recorder()
    if recorder is not None:
        recorder.compile(kernel, given, options(configuration))
        return
    if INTERPRETED:  # which takes no options
        kernel[grid](**given)
        return
    # the tensors' device need not be the current one
    with torch.cuda.device_of(next(tensors(given.values()))):
        kernel[grid](**given, **options(configuration))


def tensors(values: Iterable[Any]) -> Iterator[Tensor]:
    """Those among the values, inside tuples too."""
    for value in values:
        if isinstance(value, Tensor):
            yield value
        elif isinstance(value, tuple):
            yield from tensors(value)


def options(configuration: Configuration) -> dict[str, Any]:
    """What the compiler is told; fused multiply-adds explicitly, since Triton's default changes in 3.10."""
    warps, stages = configuration.warps, configuration.stages
    return {"num_warps": warps, "num_stages": stages, "enable_fp_fusion": True}
