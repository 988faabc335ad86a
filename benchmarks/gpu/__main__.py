"""Check every fused kernel against float64, then measure: ``python -m benchmarks.gpu [--only TEXT ...]``.

One script of at most eight minutes that needs neither network nor installation. Steps by value: the device's rates;
checks; the headline; configurations; small sizes; other libraries; profiler and counters; sizes beyond 2^31; what else
time is left for. Each has a deadline, and so has the whole; every row is appended to the results as it comes. The exit
status is 1 where a check failed, something broke or a check had no time, 2 where there is no GPU or no such job; a
missed target is told, no failure.
"""

from __future__ import annotations

import argparse
import faulthandler
import json
import os
import signal
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from benchmarks.gpu import plot, report, shipped, wheels
from benchmarks.gpu.place import Place, gpu_setting, without_gpu
from benchmarks.gpu.steps import FULL_SECONDS, STEPS, deadlines, every_job
from benchmarks.gpu.summary import summary
from benchmarks.gpu.supervisor import Budget, Supervisor
from benchmarks.machine import RESULTS

ROWS = RESULTS / "gpu.jsonl"
SMALL_ROWS = Path(tempfile.gettempdir()) / "hardneg-gpu-small.jsonl"
"""Apart from what is measured on a GPU."""
SMALL_NOTE = "small: tiny shapes in an interpreter on a CPU, to test the command; no figure below tells of a kernel"
SMALL_SECONDS = 105.0
SMALL_JOBS = (
    "probe",
    "correct: sums, bfloat16, cosine, two panels",
    "correct: ties, bfloat16",
    "bits: hardest, d = 64",
    "waits: InfoNCE",
    "deterministic: all (hinge)",
    "autocast: hardest",
    "opcheck: hardest",
    "compile: InfoNCE",
    "headline: hardest, a million",
    "headline: hardest, d = 1000",
    "tune: best",
    "small: hardest, n = 1,024, bfloat16",
    "peers: InfoNCE",
    "counters: profile, hardest",
    "counters: ncu, best",
    "beyond: select, 2.8e9",
    "time: n = 1,024",
)
"""One of each kind, since the interpreter takes long; ``--only ""`` takes all."""
ENDING_SECONDS = 20.0
"""After the limit the process ends itself, whatever it waits for."""


class Rows:
    """Appends rows to the file as they come, prints those that say something, and keeps them."""

    def __init__(self, file: Path, about: dict[str, object]) -> None:
        self.file, self.about = file, about
        self.kept: list[dict[str, Any]] = []
        file.parent.mkdir(parents=True, exist_ok=True)

    def take(self, row: dict[str, Any]) -> None:
        """Keep one."""
        row = {**self.about, **row}
        self.kept.append(row)
        with self.file.open("a", encoding="utf-8") as out:
            out.write(json.dumps(row, ensure_ascii=False) + "\n")
        text = report.line(row)
        if text:
            print(text, flush=True)


def chosen(place: Place, only: Sequence[str] | None) -> dict[str, list[str]]:
    """Names of the jobs of each step that contain one of the texts."""
    every_job(place)  # two of one name raise
    return {
        step.name: [
            job.name
            for job in step.jobs(place)
            if not only or any(text in job.name for text in only)
        ]
        for step in STEPS
    }


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu", description=__doc__)
    parser.add_argument("--only", nargs="+", metavar="TEXT", help="jobs whose name contains one")
    parser.add_argument("--list", action="store_true", help="print the names of the jobs")
    parser.add_argument("--limit", type=float, help=f"seconds in all; {FULL_SECONDS:g}")
    parser.add_argument(
        "--workers", type=int, default=os.cpu_count() or 1, help="processes at once"
    )
    parser.add_argument(
        "--out", type=Path, help="rows are appended to it; benchmarks/results/gpu.jsonl"
    )
    parser.add_argument(
        "--kernels", type=Path, help="a folder, or its packed file, of --fill-cache"
    )
    parser.add_argument("--peers", type=Path, help="a folder with wheels of other libraries")
    parser.add_argument(
        "--fill-cache", type=Path, help="compile the kernels of a run into a folder"
    )
    parser.add_argument(
        "--small",
        action="store_true",
        help="tiny shapes on the CPU in Triton's interpreter: tests the command",
    )
    parser.add_argument("--backend", default="triton", choices=("triton", "tiled"))
    return parser.parse_args()


@contextmanager
def environment(given: argparse.Namespace) -> Iterator[dict[str, str]]:
    """Of the workers: their threads, the interpreter, other libraries, and the compiled kernels."""
    found = {"OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1"}
    if given.small and given.backend == "triton":
        found["TRITON_INTERPRET"] = "1"
    with ExitStack() as stack:
        if given.peers is not None:
            libraries = str(stack.enter_context(wheels.unpacked(given.peers)))
            sys.path.append(libraries)  # where their releases are told
            paths = [os.environ.get("PYTHONPATH", ""), libraries]
            found["PYTHONPATH"] = os.pathsep.join(filter(None, paths))
        if given.kernels is not None:
            folder = stack.enter_context(shipped.unpacked(given.kernels))
            found["TRITON_CACHE_DIR"] = str(folder.resolve())
            stack.callback(tell_kernels, folder, shipped.compiled(folder), time.time())
        yield found


def tell_kernels(folder: Path, count: int, started: float) -> None:
    """Whether what was brought along was what was needed."""
    anew = shipped.compiled(folder, started)
    print(f"kernels: {count} brought along, {anew} compiled during the run")


def run(supervisor: Supervisor, jobs: dict[str, list[str]], limit: float, workers: int) -> None:
    """Each step up to its deadline; what it leaves is the next ones' time. In small only the whole has one."""
    whole, until = Budget(limit), deadlines(limit)
    steps = [step for step in STEPS if jobs[step.name]]
    for step, after in zip(steps, [*steps[1:], None], strict=True):
        passed = whole.seconds - whole.left
        alone = supervisor.place.small or len(steps) == 1
        seconds = whole.left if alone else max(0.0, until[step.name] - passed)
        print(f"{step.name} (at {passed:.0f} s, for {seconds:.0f} s at most)", flush=True)
        supervisor.warm(min(workers, step.workers))
        if after is not None and after.workers == 1:  # many would disturb the times
            supervisor.warm(len(supervisor.idle) + 1)
        supervisor.run(jobs[step.name], min(workers, step.workers), Budget(seconds))


def finish(rows: Rows, names: set[str]) -> int:
    """Tell what it came to; returns the exit status."""
    print(plot.draw(rows.kept, rows.file.with_suffix(".png")))
    print(summary(rows.kept))
    print(f"rows: {rows.file}", flush=True)
    undone = [row for row in rows.kept if report.skipped(row) and row["job"] in names]
    return 1 if undone or any(map(report.failed, rows.kept)) else 0


def main() -> None:
    """All steps within the time limit."""
    given = arguments()
    if given.fill_cache is not None:
        from benchmarks.gpu.fill import fill

        fill(given.fill_cache, given.only, given.workers)
        return
    place = Place("cpu" if given.small else "cuda", given.small, given.backend)
    jobs = chosen(place, given.only or (SMALL_JOBS if given.small and not given.list else None))
    if given.list:
        print("\n".join(name for names in jobs.values() for name in names))
        return
    hindrance = "" if given.small else without_gpu()
    if not any(jobs.values()):
        hindrance = f"no job's name contains {' or '.join(given.only)}: --list names them"
    if hindrance:
        print(hindrance, file=sys.stderr)
        sys.exit(2)
    sys.exit(guarded(given, place, jobs))


def guarded(given: argparse.Namespace, place: Place, jobs: dict[str, list[str]]) -> int:
    """Run; workers end and the summary is told however it ends."""
    limit = given.limit or (SMALL_SECONDS if given.small else FULL_SECONDS)
    faulthandler.dump_traceback_later(limit + ENDING_SECONDS, exit=True, file=sys.__stderr__)
    with environment(given) as told:
        about = gpu_setting()
        if given.small:
            print(SMALL_NOTE)
            about["small"] = True
        rows = Rows(given.out or (SMALL_ROWS if given.small else ROWS), about)
        supervisor = Supervisor(place, rows.take, told)
        return supervised(given, supervisor, rows, jobs, limit)


def supervised(
    given: argparse.Namespace,
    supervisor: Supervisor,
    rows: Rows,
    jobs: dict[str, list[str]],
    limit: float,
) -> int:
    """Run; returns the exit status."""

    def stop(number: int, _: object) -> None:
        supervisor.close()
        raise SystemExit(128 + number)

    signal.signal(signal.SIGTERM, stop)
    must = {name for step in STEPS if step.must for name in jobs[step.name]}
    try:
        run(supervisor, jobs, limit, given.workers)
    finally:
        supervisor.close()
        status = finish(rows, must)
    return status


if __name__ == "__main__":
    main()
