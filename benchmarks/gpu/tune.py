"""Every entry of the table of configurations that matters, beside others: which is fastest, as a line for the table."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from functools import partial
from statistics import median
from typing import Any

import torch
from torch import Tensor

from benchmarks.case import OURS, Contender
from benchmarks.gpu.configurations import Key, alternatives, table_line
from benchmarks.gpu.jobs import Job, Row
from benchmarks.gpu.losses import LOSSES, drawn, step
from benchmarks.gpu.measurements import told
from benchmarks.gpu.place import Place
from benchmarks.gpu.timing import DeviceRunner
from benchmarks.timing import elapsed

ROWS, WIDTHS = 16_384, (1024, 256)
LOSS_OF = {
    "best": "hardest",
    "weigh": "all (hinge)",
    "dense": "InfoNCE",
    "ranked": "semi-hard",
    "top": "8 hardest",
}
"""A loss that launches this entry of the table, with 16-bit embeddings (InfoNCE launches ``"weigh"`` too)."""
ROUNDS = 5
WORTH = 0.97
"""A change of the table must save three in a hundred: less is the noise of one run."""


@dataclass
class Found:
    """A configuration that ran."""

    key: Key
    configuration: Any
    seconds: float
    result: tuple[Tensor, ...]


def tried(kernel: str, width: int, place: Place) -> Iterator[Row]:
    """A row for each configuration; the last one names the fastest whose results are the table's."""
    from hardneg.ops.triton.tuning import using

    n, d = (16, 8) if place.small else (ROWS, width)
    loss = place.loss(LOSSES[LOSS_OF[kernel]])
    inputs = drawn(LOSS_OF[kernel], (n, d), torch.bfloat16, place.device)
    found: list[Found] = []
    for key, configuration in alternatives(kernel, width, place):
        row: Row = {"kernel": kernel, "width": width, "key": list(key)}
        row["configuration"] = asdict(configuration)
        try:
            with using({key: configuration}):
                found.append(Found(key, configuration, *once_more(loss, inputs)))
            row["median_ms"] = 1e3 * found[-1].seconds
        except Exception as error:
            if not found:  # the table's own; another one may be too large for the device
                raise
            place.synchronize()
            row["note"] = told(error)
        yield row
    yield winner(kernel, width, found)


def once_more(loss: Any, inputs: tuple[Tensor, ...]) -> tuple[float, tuple[Tensor, ...]]:
    """Seconds of a step, and its results."""
    result = step(loss, inputs)
    if inputs[0].device.type == "cpu":
        return elapsed(partial(step, loss, inputs), "cpu"), result
    runner = DeviceRunner.warmed_up(Contender(OURS, lambda: loss), inputs)
    for _ in range(ROUNDS):
        runner.sample()
    return median(runner.seconds), result


def winner(kernel: str, width: int, found: list[Found]) -> Row:
    """The fastest, if that is worth a change, as the table would have it."""
    own = found[0]
    right = [x for x in found if close(x.result, own.result)]
    best = min(right, key=lambda x: x.seconds)
    if best.seconds > WORTH * own.seconds:
        best = own
    return {
        "winner": kernel,
        "width": width,
        "wrong": [asdict(x.configuration) for x in found if not close(x.result, own.result)],
        "median_ms": 1e3 * best.seconds,
        "table_ms": 1e3 * own.seconds,
        "changed": best is not own,
        "line": table_line(best.key, best.configuration),
    }


def close(result: tuple[Tensor, ...], expected: tuple[Tensor, ...]) -> bool:
    """Another tile adds up in another order, no more."""
    for a, b in zip(result, expected, strict=True):
        a, b = a.float(), b.float()
        if not bool((a - b).norm() <= 1e-2 * b.norm()):
            return False
    return True


def jobs(place: Place) -> Iterator[Job]:
    """Kernels by value, wide embeddings first."""
    for width in WIDTHS[:1] if place.small else WIDTHS:
        for kernel in LOSS_OF:
            yield Job(f"tune: {kernel}, d = {width}", partial(tried, kernel, width, place), 30.0)
