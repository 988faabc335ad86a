"""The cases as jobs: all contenders of a case in turn, rounds interleaved, one row each."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from dataclasses import asdict
from functools import partial

import torch

from benchmarks import formulas
from benchmarks.case import OURS, PLAIN
from benchmarks.core import add_times, at_most, targets
from benchmarks.gpu.arithmetic import Arithmetic
from benchmarks.gpu.cases import DeviceCase, cases
from benchmarks.gpu.jobs import Job, Row
from benchmarks.gpu.place import Place
from benchmarks.gpu.timing import DeviceRunner
from benchmarks.peers import Missing
from benchmarks.timing import interleave

OUT_OF_MEMORY = "out of memory"
CASE_SECONDS = 3.0
"""Of rounds; a case that is longer does two rounds."""


def prepared(case: DeviceCase, place: Place) -> tuple[list[Row], list[DeviceRunner]]:
    """A row for each contender, and those that can run: the others' rows say why not."""
    rows: list[Row] = []
    runners = []
    for contender in case.contenders:
        about = str(Arithmetic(case.dtype, case.products))
        row: Row = {"case": case.name, "shape": list(case.shape), "contender": contender.name}
        row["arithmetic"] = about
        rows.append(row)
        try:
            runner = DeviceRunner.warmed_up(contender, case.on(place.device))
        except Exception as error:
            if contender.name == OURS:  # a peer's failure is told in its row, ours fails the job
                raise
            row["note"] = told(error)
            torch.cuda.empty_cache()
            continue
        if runner.peak_mib is not None:
            row.update(peak_mib=runner.peak_mib, total_mib=runner.total_mib)
        runners.append(runner)
    return rows, runners


def told(error: Exception) -> str:
    """Why there is no time."""
    if isinstance(error, torch.OutOfMemoryError):
        return OUT_OF_MEMORY
    return str(error) if isinstance(error, Missing) else f"{type(error).__name__}: {error}"[:300]


def measured(case: DeviceCase, place: Place) -> Iterator[Row]:
    """The rows of a case; ours holds the targets."""
    case = case.at(case.small) if place.small else case
    formulas.own.cache_clear()  # the mask of an earlier case would count as memory of this one
    gc.collect()
    with Arithmetic(case.dtype, case.products).chosen():
        rows, runners = prepared(case, place)
        interleave(runners, 1 if case.once else 7, CASE_SECONDS)
    add_times(rows, runners)
    mine = next(row for row in rows if row["contender"] == OURS)
    mine["targets"] = [*targets(case, rows, runners), *further(case, rows)]
    yield from rows


def further(case: DeviceCase, rows: list[Row]) -> list[Row]:
    """Targets in seconds, and of memory beside the plain formula."""
    by_name = {row["contender"]: row for row in rows}
    mine, found = by_name[OURS], []
    if case.longest is not None:
        found.append(at_most(f"≤ {case.longest:g} s", mine["median_ms"] / 1e3, case.longest))
    if case.less_memory is not None:
        value = None
        if "peak_mib" in mine and "peak_mib" in by_name[PLAIN]:
            value = by_name[PLAIN]["peak_mib"] / max(mine["peak_mib"], 1.0)
        found.append(
            {
                "target": f"≥ {case.less_memory:g} x less memory than the {PLAIN}",
                "value": value,
                "limit": case.less_memory,
                "met": None if value is None else value >= case.less_memory,
            }
        )
    return found


def tried(kernel: str, place: Place) -> Iterator[Row]:
    """The loss that lives by a kernel under several configurations of it: from this the table is mended."""
    from benchmarks.gpu.configurations import LOSS_OF, alternatives
    from hardneg.ops.triton.tuning import using

    case = next(c for c in cases(place) if c.name == LOSS_OF[kernel])
    n = 32_768
    case = case.at(case.small) if place.small else case.at((n, n, case.shape[2]))
    ours = case.contender(OURS)
    for number, (key, configuration) in enumerate(alternatives(kernel, place)):
        row: Row = {"kernel": kernel, "key": list(key), "configuration": asdict(configuration)}
        try:
            with using({key: configuration}):
                runner = DeviceRunner.warmed_up(ours, case.on(place.device))
                for _ in range(3):
                    runner.sample()
            row["median_ms"] = 1e3 * sorted(runner.seconds)[1]
        except Exception as error:
            if number == 0:  # the table's own; another one may be too large for the device
                raise
            row["note"] = told(error)
        yield row


def measurements(place: Place) -> dict[str, Job]:
    """All measurements by name."""
    from benchmarks.gpu.configurations import LOSS_OF

    jobs = [
        Job(f"time: {case.name}", partial(measured, case, place), 90.0) for case in cases(place)
    ]
    jobs += [Job(f"tune: {kernel}", partial(tried, kernel, place), 60.0) for kernel in LOSS_OF]
    return {job.name: job for job in jobs}
