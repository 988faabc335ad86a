"""Check every fused kernel against float64, then measure: ``python -m benchmarks.gpu [--only TEXT ...]``.

Order: correctness, behaviour (same bits twice, compile, CUDA graphs, autocast, opcheck, sizes beyond 2^31),
times and memory, configurations. Every row is appended to the results as it comes. The exit status is 1 where a
check failed, something broke or a check had no time, 2 where there is no GPU or no such job; a missed target is
told, no failure.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from pathlib import Path
from typing import Any

from benchmarks.gpu import plot, report
from benchmarks.gpu.place import Place, gpu_setting, without_gpu
from benchmarks.gpu.supervisor import Budget, Supervisor
from benchmarks.gpu.worker import every_job
from benchmarks.machine import RESULTS

ROWS = RESULTS / "gpu.jsonl"
MEASURED = ("time", "tune")
CHECK_SHARE = 0.5
"""Of the time budget at most, so that a slow compiler leaves something for the measurements."""


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


def chosen(place: Place, only: list[str] | None) -> tuple[list[str], list[str]]:
    """Names of the checks and of the measurements that contain one of the texts."""
    names = [n for n in every_job(place) if not only or any(text in n for text in only)]
    measured = [n for n in names if n.split(":", 1)[0] in MEASURED]
    return [n for n in names if n not in measured], measured


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu", description=__doc__)
    parser.add_argument("--only", nargs="+", metavar="TEXT", help="jobs whose name contains one")
    parser.add_argument("--list", action="store_true", help="print the names of the jobs")
    parser.add_argument("--limit", type=float, default=470.0, help="seconds in all")
    parser.add_argument(
        "--workers", type=int, default=min(8, os.cpu_count() or 1), help="processes for the checks"
    )
    parser.add_argument("--out", type=Path, default=ROWS)
    parser.add_argument(
        "--small",
        action="store_true",
        help="tiny shapes on the CPU in Triton's interpreter (TRITON_INTERPRET=1): tests the command",
    )
    parser.add_argument("--backend", default="triton", choices=("triton", "tiled"))
    return parser.parse_args()


def main() -> None:
    """All jobs within the time limit."""
    given = arguments()
    place = Place("cpu" if given.small else "cuda", given.small, given.backend)
    checks, measured = chosen(place, given.only)
    if given.list:
        print("\n".join(checks + measured))
        return
    hindrance = "" if given.small else without_gpu()
    if not checks + measured:
        hindrance = f"no job's name contains {' or '.join(given.only)}: --list names them"
    if hindrance:
        print(hindrance, file=sys.stderr)
        sys.exit(2)
    budget = Budget(given.limit)
    rows = Rows(given.out, gpu_setting())
    supervisor = Supervisor(place, rows.take)
    until = Budget((CHECK_SHARE if measured else 1.0) * given.limit)
    large = [name for name in checks if name.startswith("beyond")]  # alone, for their memory
    supervisor.run([name for name in checks if name not in large], given.workers, until)
    supervisor.run(large, 1, until)
    supervisor.run(measured, 1, budget)
    print(plot.draw(rows.kept, given.out.with_suffix(".png")))
    print(report.summary(rows.kept))
    undone = [row for row in rows.kept if report.skipped(row) and row["stage"] not in MEASURED]
    sys.exit(1 if undone or any(map(report.failed, rows.kept)) else 0)


if __name__ == "__main__":
    main()
