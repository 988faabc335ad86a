"""Small batches, where launches and the host's time decide: ours as users call it, the formula, compiled, graphs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from benchmarks.case import OURS, PLAIN, Contender, Target
from benchmarks.gpu.cases.device_case import (
    COMPILED,
    FORMULAS,
    TINY,
    DeviceCase,
    compiled,
    plain,
)
from benchmarks.gpu.losses import LOSSES, recorded
from benchmarks.gpu.place import Place
from benchmarks.peers import Missing

SIZES = (1024, 128, 4096, 256, 2048)
WIDTH = 512
DTYPES = (torch.bfloat16, torch.float32)
NAMES = ("hardest", "InfoNCE", "all (hinge)")
TWICE = 1024
"""The size at which ours must be twice as fast."""


def auto(place: Place, name: str) -> Callable[[], Callable[..., Tensor]]:
    """Ours, as it is without a word about backends."""
    return lambda: LOSSES[name]("auto").to(place.device)


def graphed(place: Place, name: str, make: Callable[[], Callable[..., Tensor]]) -> Contender:
    """Forward and backward of what ``make`` returns in one CUDA graph."""

    def ready() -> Callable[..., Tensor]:
        if place.device != "cuda":
            raise Missing("no CUDA graphs on a CPU")
        loss, kept = make(), []

        def step(*inputs: Tensor) -> Tensor:
            if not kept:
                kept.append(recorded(loss, inputs))
            graph, found = kept[0]
            graph.replay()
            return found[0]

        return step

    return Contender(f"{name}, CUDA graph", ready, gradient=False)


def case(
    place: Place,
    name: str,
    n: int,
    dtype: torch.dtype,
    rivals: tuple[Contender, ...],
    target: Target,
) -> DeviceCase:
    """One loss at one size in one format, ours first."""
    about = f"{name}, n = {n:,}, {str(dtype).removeprefix('torch.')}"
    ours = Contender(OURS, auto(place, name))
    told: dict[str, Any] = {"dtype": dtype, "loss": name, "seconds": 0.3}
    return DeviceCase(about, (n, n, WIDTH), TINY, (ours, *rivals), (target,), None, **told)


def eager(place: Place, name: str, n: int, dtype: torch.dtype) -> DeviceCase:
    """Beside the formula as written."""
    target = Target(PLAIN, 0.5 if n == TWICE else 1.0)
    return case(place, name, n, dtype, (plain(place, name)[0],), target)


def faster(place: Place, name: str, n: int, dtype: torch.dtype) -> DeviceCase:
    """Ours compiled beside the compiled formula, and both as CUDA graphs."""
    formula = FORMULAS[name]
    rival = plain(place, name)[1]
    graphs = (
        graphed(place, OURS, auto(place, name)),
        graphed(place, PLAIN, lambda: formula),
    )
    found = case(place, name, n, dtype, (rival, *graphs), Target(rival.name, 1.0))
    ours = replace(compiled(place, OURS, auto(place, name)), name=OURS)
    contenders = (ours, *found.contenders[1:])
    return replace(found, name=f"{found.name}, {COMPILED}", contenders=contenders)


def cases(place: Place) -> list[DeviceCase]:
    """Eager ones first, since compiling takes seconds each."""
    sizes = SIZES[:1] if place.small else SIZES
    names = NAMES[:2] if place.small else NAMES
    found = [eager(place, name, n, t) for n in sizes for t in DTYPES for name in names]
    found += [faster(place, name, n, DTYPES[0]) for n in sizes for name in names[:2]]
    return found + [faster(place, name, n, DTYPES[1]) for n in sizes[:1] for name in names[:2]]
