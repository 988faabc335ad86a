"""The checks as jobs: pieces of work that a process of its own does one after the other."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

from benchmarks.gpu import behaviour, beyond, selections, steadiness, sums
from benchmarks.gpu.arithmetic import ARITHMETICS, BFLOAT16, Verdict
from benchmarks.gpu.losses import LOSSES
from benchmarks.gpu.place import Place
from benchmarks.gpu.problems import Problem, problems
from benchmarks.gpu.whole import suited as suited_whole
from benchmarks.gpu.whole import verdicts as whole_verdicts

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
    seconds: float = 60.0

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


def of_problem(problem: Problem) -> Iterator[Job]:
    """Both kinds of kernels on one problem."""
    if problem.situation.reductions:
        chosen = [name for name in sums.REDUCTIONS if name in problem.situation.reductions]
        selected = [name for name in suited(problem) if name in problem.situation.reductions]
    else:
        chosen, selected = list(sums.REDUCTIONS), suited(problem)
    run = partial(many, selections.verdicts, selected, problem)
    yield Job(f"correct: select, {problem}", run)
    run = partial(many, sums.verdicts, chosen, problem)
    yield Job(f"correct: sums, {problem}", run)


def correctness(place: Place) -> list[Job]:
    """Every kernel on every problem, and ties; the tensor cores first."""
    found = [job for problem in problems(place, ARITHMETICS) for job in of_problem(problem)]
    ties = [
        Job(f"correct: ties, {a}", partial(tied, place, a))
        for a in (BFLOAT16, *(a for a in ARITHMETICS if a != BFLOAT16))
    ]
    whole = [
        Job(
            f"correct: whole {name}, {a}",
            partial(found_by, partial(whole_verdicts, place, name, a)),
        )
        for a in ARITHMETICS
        for name in suited_whole(a)
    ]
    return found[:4] + ties[:1] + whole + found[4:] + ties[1:]


def tied(place: Place, arithmetic: Any) -> Iterator[Row]:
    """Equal scores."""
    return rows(selections.ties(place, arithmetic))


def steady(place: Place) -> Iterator[Job]:
    """The same bits many times, and no wait for the device."""
    for width in steadiness.WIDTHS:
        for loss in steadiness.REPEATED:
            run = partial(steadiness.repeated, place, loss, width)
            yield Job(f"bits: {loss}, d = {width}", partial(found_by, run))
    for loss in LOSSES:
        yield Job(f"waits: {loss}", partial(found_by, partial(steadiness.waits, place, loss)))


def found_by(check: Callable[[], Iterator[Verdict]]) -> Iterator[Row]:
    """The rows of a check."""
    return rows(check())


def behaviours(place: Place) -> Iterator[Job]:
    """What losses do beside being right."""
    for kind, (check, losses) in behaviour.CHECKS.items():
        if kind == "graph" and place.device != "cuda":
            continue
        for loss in losses:
            yield Job(f"{kind}: {loss}", partial(found_by, partial(check, place, loss)))


def beyond_jobs(place: Place) -> Iterator[Job]:
    """Sizes beyond 2^31."""
    for name, (make, check) in beyond.CHECKS.items():

        def run(make: Any = make, check: Any = check) -> Iterator[Row]:
            return rows(check(place, make(place)))

        yield Job(f"beyond: {name}", run)


def checks(place: Place) -> Iterator[Job]:
    """All checks but those of sizes, by value."""
    correct, repeated = correctness(place), list(steady(place))
    first = len(correct) // 3
    yield from correct[:first]
    yield from repeated
    yield from correct[first:]
    yield from behaviours(place)
