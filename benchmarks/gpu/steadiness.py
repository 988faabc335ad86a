"""Checks that take many steps, or watch one: the same bits 200 times, and no wait for the device."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from benchmarks.gpu.arithmetic import Verdict
from benchmarks.gpu.losses import LOSSES, drawn, step
from benchmarks.gpu.place import Place

REPEATS, WIDTHS, ROWS = 200, (64, 256, 1024), 8192
REPEATED = ("hardest", "all (hinge)", "InfoNCE", "8 hardest")
READS = frozenset(
    ("_local_scalar_dense", "nonzero", "item", "is_nonzero", "_unique2", "masked_select")
)
"""Operators that read the device; on a CPU their calls stand for the waits that a GPU's would be."""


class NoReads(TorchDispatchMode):
    """Raises where a number or a shape is read off the device."""

    def __torch_dispatch__(
        self, func: object, types: object, args: tuple = (), kwargs: dict | None = None
    ) -> object:
        name = func._opname
        if name in READS:
            raise RuntimeError(f"{name} waits for the device")
        return func(*args, **(kwargs or {}))


def repeated(place: Place, name: str, width: int) -> Iterator[Verdict]:
    """Every program of a full device ends in another order each time; the bits must not tell."""
    n, times = (24, 3) if place.small else (ROWS, REPEATS)
    loss = place.loss(LOSSES[name])
    inputs = drawn(name, (n, width), torch.bfloat16, place.device)
    first = step(loss, inputs)
    wrong = torch.zeros((), dtype=torch.int64, device=place.device)
    for _ in range(times - 1):
        for a, b in zip(step(loss, inputs), first, strict=True):
            wrong += (a != b).sum()
    yield Verdict(f"the same bits {times} times", float(wrong), 0.0, 0.0)


def waits(place: Place, name: str) -> Iterator[Verdict]:
    """Forward and backward without a wait for the device, by the kernels and by ``"auto"``, small and large."""
    sizes = (18,) if place.small else (256, 3000)
    # on a CPU "auto" reads what costs nothing there
    backends = ("the kernels", "auto") if place.device == "cuda" else ("the kernels",)
    for backend, n in [(b, n) for b in backends for n in sizes]:
        loss = place.loss(LOSSES[name])
        if backend == "auto":
            loss = LOSSES[name]("auto").to(place.device)
        inputs = drawn(name, (n, 128 if n > 18 else 12), torch.float32, place.device)
        step(loss, inputs)  # what is loaded once may wait
        said = unwatched(loss, inputs, place)
        yield Verdict(f"no wait, {backend}, n = {n}{said}", float(bool(said)), 0.0, 0.0)


def unwatched(loss: object, inputs: tuple[Tensor, ...], place: Place) -> str:
    """What waited; empty: nothing did."""
    leaves = [x for x in inputs if x.is_floating_point()]
    try:
        if place.device != "cuda":
            with NoReads():
                torch.autograd.grad(loss(*inputs), leaves)
            return ""
        torch.cuda.synchronize()
        torch.cuda.set_sync_debug_mode("error")
        torch.autograd.grad(loss(*inputs), leaves)
    except RuntimeError as error:
        return f": {error}"[:300]
    finally:
        if place.device == "cuda":
            torch.cuda.set_sync_debug_mode("default")
    return ""
