"""The cases as jobs: ours first, whose row is written before any other runs; then each other one in turn beside it."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from statistics import median

import torch

from benchmarks import formulas
from benchmarks.case import OURS, PLAIN, Contender
from benchmarks.core import at_most
from benchmarks.gpu.arithmetic import Arithmetic
from benchmarks.gpu.cases.device_case import DeviceCase
from benchmarks.gpu.jobs import Job, Row
from benchmarks.gpu.place import Place
from benchmarks.gpu.timing import DeviceRunner
from benchmarks.peers import Missing
from benchmarks.timing import interleave, ratio

OUT_OF_MEMORY = "out of memory"
LEAST_ROUNDS = 7


def told(error: Exception) -> str:
    """Why there is no time."""
    if isinstance(error, torch.OutOfMemoryError):
        return OUT_OF_MEMORY
    return str(error) if isinstance(error, Missing) else f"{type(error).__name__}: {error}"[:300]


def forget() -> None:
    """What earlier contenders left would count as memory of the next."""
    formulas.own.cache_clear()
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def about(case: DeviceCase, contender: Contender) -> Row:
    """What every row of a case says."""
    return {
        "case": case.name,
        "shape": list(case.shape),
        "contender": contender.name,
        "arithmetic": str(Arithmetic(case.dtype, case.products)),
    }


def add_times(row: Row, runner: DeviceRunner) -> None:
    """Median, spread and memory."""
    row.update(
        median_ms=1e3 * median(runner.seconds),
        min_ms=1e3 * min(runner.seconds),
        max_ms=1e3 * max(runner.seconds),
        rounds=len(runner.seconds),
        calls=runner.calls,
    )
    if runner.peak_mib is not None:
        row.update(peak_mib=runner.peak_mib, total_mib=runner.total_mib)


def measured(case: DeviceCase, place: Place) -> Iterator[Row]:
    """The rows of a case; a rival's failure is told in its row, ours fails the job."""
    case = replace(case.at(case.small), seconds=0.0) if place.small else case
    torch._dynamo.reset()  # not between contenders: ours would be compiled anew within the rounds
    forget()
    with Arithmetic(case.dtype, case.products).chosen():
        ours = DeviceRunner.warmed_up(case.contender(OURS), case.on(place.device))
        interleave([ours], 1 if case.once else LEAST_ROUNDS, case.seconds)
        mine = about(case, ours.contender)
        add_times(mine, ours)
        mine["targets"] = own_targets(case, mine)
        yield mine
        for rival in case.contenders[1:]:
            forget()
            yield beside(case, ours, rival, place)


def beside(case: DeviceCase, ours: DeviceRunner, rival: Contender, place: Place) -> Row:
    """A rival's row, from rounds in which ours runs as well."""
    row = about(case, rival)
    share = None
    try:
        runner = DeviceRunner.warmed_up(rival, case.on(place.device))
        ours.seconds.clear()
        interleave([ours, runner], 1 if case.once else LEAST_ROUNDS, case.seconds)
        add_times(row, runner)
        share = ratio(ours, runner)
        row.update(hardneg_ms=1e3 * median(ours.seconds), hardneg_ratio=share)
    except Exception as error:
        place.synchronize()  # a device that answers no more ends the job
        row["note"] = told(error)
    row["targets"] = [t.judged(share) for t in case.targets if t.against == rival.name]
    if case.less_memory is not None and rival.name == PLAIN:
        row["targets"].append(less_memory(case.less_memory, ours.peak_mib, row.get("peak_mib")))
    return row


def own_targets(case: DeviceCase, mine: Row) -> list[Row]:
    """Those that need no rival: memory and seconds."""
    found = []
    if case.peak_mib is not None:
        what = f"peak ≤ {case.peak_mib:g} MiB"
        found.append(at_most(what, mine.get("peak_mib"), case.peak_mib))
    if case.total_mib is not None:
        what = f"≤ {case.total_mib:g} MiB in all"
        found.append(at_most(what, mine.get("total_mib"), case.total_mib))
    if case.longest is not None:
        found.append(at_most(f"≤ {case.longest:g} s", mine["median_ms"] / 1e3, case.longest))
    return found


def less_memory(times: float, mine: float | None, plain: float | None) -> Row:
    """Ours takes so many times less than the plain formula."""
    value = None if mine is None or plain is None else plain / max(mine, 1.0)
    met = None if value is None else value >= times
    text = f"≥ {times:g} x less memory than the {PLAIN}"
    return {"target": text, "value": value, "limit": times, "met": met}


def timed(
    stage: str, cases: Callable[[Place], list[DeviceCase]]
) -> Callable[[Place], Iterator[Job]]:
    """The jobs of a step: one a case."""

    def jobs(place: Place) -> Iterator[Job]:
        for case in cases(place):
            yield Job(f"{stage}: {case.name}", partial(measured, case, place), 60.0)

    return jobs
