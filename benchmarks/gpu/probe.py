"""What the device can do at all: rates of products and copies, the time of a launch; are kernels at hand?"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from functools import partial
from statistics import median

import torch
from torch import Tensor

from benchmarks.gpu import shipped
from benchmarks.gpu.arithmetic import Arithmetic
from benchmarks.gpu.jobs import Job, Row
from benchmarks.gpu.losses import LOSSES, drawn, step
from benchmarks.gpu.place import Place
from benchmarks.timing import elapsed

ROUNDS = 5
FORMATS = (
    Arithmetic(torch.bfloat16),
    Arithmetic(torch.float32, "high"),
    Arithmetic(torch.float32),
)


def seconds(work: Callable[[], object], place: Place, calls: int) -> float:
    """Of one call, the median of some rounds."""

    def several() -> None:
        for _ in range(calls):
            work()

    several()
    return median(elapsed(several, place.device) for _ in range(ROUNDS)) / calls


def row(what: str, value: float, unit: str) -> Row:
    """A measured ceiling."""
    return {"ceiling": what, "value": value, "unit": unit}


def products(place: Place) -> Iterator[Row]:
    """Square products by torch, and one of the shape that the headline's losses need."""
    n = 64 if place.small else 8192
    for arithmetic in FORMATS:
        a, b = (torch.randn(n, n, device=place.device, dtype=arithmetic.dtype) for _ in range(2))
        out = torch.empty_like(a)
        with arithmetic.chosen():
            took = seconds(partial(torch.mm, a, b, out=out), place, 3)
        yield row(f"product of {n} x {n} x {n}, {arithmetic}", 2e-12 * n**3 / took, "TFLOP/s")
    n, d = (64, 16) if place.small else (65_536, 1024)
    a, b = (torch.randn(n, d, device=place.device, dtype=torch.bfloat16) for _ in range(2))
    out = torch.empty(n, n, device=place.device, dtype=torch.bfloat16)
    took = seconds(partial(torch.mm, a, b.t(), out=out), place, 1)
    yield row(f"product of {n} x {n} x {d}, bfloat16", 2e-12 * n * n * d / took, "TFLOP/s")


def copies(place: Place) -> Iterator[Row]:
    """A copy within the device, bytes read and written; larger than any cache."""
    count = 2**16 if place.small else 2**30
    source = torch.randn(count, device=place.device)
    target = torch.empty_like(source)
    took = seconds(partial(target.copy_, source), place, 2)
    yield row("copy", 2e-9 * source.nbytes / took, "GB/s")


def launches(place: Place) -> Iterator[Row]:
    """What the host takes to issue a small operation: the unit of the small sizes."""
    x = torch.zeros(8, device=place.device)
    calls = 100 if place.small else 2000

    def issue(add: Callable[[float], Tensor]) -> float:
        place.synchronize()
        started = time.perf_counter()
        for _ in range(calls):
            add(1.0)
        return (time.perf_counter() - started) / calls

    issue(x.add_)
    yield row("issuing x.add_(1)", 1e6 * issue(x.add_), "us")


def compiled_kernels(place: Place) -> Iterator[Row]:
    """The first step of a loss: were its kernels in the folder, or had they to be compiled?"""
    folder = shipped.in_use()
    yield row("kernels in the folder", shipped.compiled(folder), "kernels")
    begun, started = time.time(), time.perf_counter()
    n, d = (16, 16) if place.small else (2048, 256)
    step(place.loss(LOSSES["hardest"]), drawn("hardest", (n, d), torch.bfloat16, place.device))
    place.synchronize()
    yield row("first step of a loss", time.perf_counter() - started, "s")
    yield row("kernels compiled for it", shipped.compiled(folder, begun), "kernels")


def jobs(place: Place) -> Iterator[Job]:
    """In this order."""
    for name, work in (
        ("products", products),
        ("copy", copies),
        ("launch", launches),
        ("kernels", compiled_kernels),
    ):
        yield Job(f"probe: {name}", partial(work, place), 20.0)
