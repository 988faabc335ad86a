"""The steps of a run, by value: what each does, for how long, in how many processes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from benchmarks.gpu import counters, probe, tune
from benchmarks.gpu.cases import headline, peer, small_size, wide
from benchmarks.gpu.jobs import Job, beyond_jobs, checks
from benchmarks.gpu.measurements import timed
from benchmarks.gpu.place import Place

FULL_SECONDS = 470.0
"""Of all steps, with what starting and ending takes within eight minutes."""


@dataclass(frozen=True)
class Step:
    """A part of a run.

    Attributes:
        name: as in the summary.
        seconds: of the full run; what a step leaves is the next ones'.
        workers: processes at once; one where times are measured.
        jobs: what it does, by value.
        must: whether a job without time is a failure.
    """

    name: str
    seconds: float
    workers: int
    jobs: Callable[[Place], Iterator[Job]]
    must: bool = False


STEPS = (
    Step("probe", 20, 1, probe.jobs),
    Step("checks", 75, 12, checks, must=True),
    Step("headline", 60, 1, timed("headline", headline.cases)),
    Step("tune", 115, 1, tune.jobs),
    Step("small sizes", 60, 1, timed("small", small_size.cases)),
    Step("peers", 55, 1, timed("peers", peer.cases)),
    Step("counters", 45, 1, counters.jobs),
    Step("beyond 2^31", 30, 1, beyond_jobs, must=True),
    Step("further", 10, 1, timed("time", wide.cases)),
)


def deadlines(limit: float) -> dict[str, float]:
    """By when each step must have ended, in seconds from the start."""
    total, passed, found = sum(step.seconds for step in STEPS), 0.0, {}
    for step in STEPS:
        passed += step.seconds
        found[step.name] = limit * passed / total
    return found


def every_job(place: Place) -> dict[str, Job]:
    """All jobs by name, in order."""
    found: dict[str, Job] = {}
    for step in STEPS:
        for job in step.jobs(place):
            if job.name in found:
                raise ValueError(f"two jobs are named {job.name!r}")
            found[job.name] = job
    return found
