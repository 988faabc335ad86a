"""The checks as jobs: pieces of work that a process of its own does one after the other."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

from benchmarks.gpu import behaviour, beyond, selections, sums
from benchmarks.gpu.arithmetic import ARITHMETICS, Verdict
from benchmarks.gpu.place import Place
from benchmarks.gpu.problems import Problem, problems

Row = dict[str, Any]


@dataclass(frozen=True)
class Job:
    """A piece of work.

    Args:
        name: unique; the stage comes first: ``"correct: ..."``.
        run: gives rows; raises where something breaks.
        seconds: after so long without an end its process is stopped.
    """

    name: str
    run: Callable[[], Iterator[Row]]
    seconds: float = 120.0

    @property
    def stage(self) -> str:
        """The first word of the name."""
        return self.name.split(":", 1)[0]


def rows(found: Iterator[Verdict]) -> Iterator[Row]:
    """Verdicts as rows."""
    for verdict in found:
        yield verdict.row()


def many(
    check: Callable[[str, Problem], Iterator[Verdict]], names: list[str], problem: Problem
) -> Iterator[Row]:
    """A check of several reductions on one problem; each verdict says which."""
    for name in names:
        for verdict in check(name, problem):
            yield {**verdict.row(), "what": f"{name}: {verdict.what}"}


def suited(problem: Problem) -> list[str]:
    """The selections that the problem's similarity knows."""
    names = list(selections.SELECTIONS)
    return (
        names if problem.similarity == "cosine" else [n for n in names if n != "distance-weighted"]
    )


def correctness(place: Place) -> Iterator[Job]:
    """Every kernel on every problem, and ties."""
    for problem in problems(place, ARITHMETICS):
        run = partial(many, selections.verdicts, suited(problem), problem)
        yield Job(f"correct: select, {problem}", run)
        run = partial(many, sums.verdicts, list(sums.REDUCTIONS), problem)
        yield Job(f"correct: sums, {problem}", run)
    for arithmetic in ARITHMETICS:
        yield Job(
            f"correct: ties, {arithmetic}", lambda a=arithmetic: rows(selections.ties(place, a))
        )


def behaviours(place: Place) -> Iterator[Job]:
    """What losses do beside being right, and sizes beyond 2^31."""
    for name, (make, check) in beyond.CHECKS.items():
        yield Job(f"beyond: {name}", lambda make=make, check=check: rows(check(place, make(place))))
    for kind, (check_loss, losses) in behaviour.CHECKS.items():
        if kind == "graph" and place.device != "cuda":
            continue
        for loss in losses:
            yield Job(
                f"{kind}: {loss}", lambda check=check_loss, loss=loss: rows(check(place, loss))
            )


def checks(place: Place) -> dict[str, Job]:
    """All checks by name."""
    return {job.name: job for part in (correctness, behaviours) for job in part(place)}
