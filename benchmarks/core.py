"""Measure the cases and record them: ``python -m benchmarks.core [--only NAME ...] [--huge]``."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from statistics import median
from typing import Any

import torch

from benchmarks.case import OURS, PLAIN, PRODUCT, Case, Contender, Target
from benchmarks.cases import CASES
from benchmarks.machine import RESULTS, free_gib, setting
from benchmarks.memory import in_own_process
from benchmarks.peers import Missing
from benchmarks.timing import Runner, interleave, ratio

Row = dict[str, Any]
REFERENCES = (PRODUCT, PLAIN, OURS)
ROWS = RESULTS / "core.jsonl"


def hindrance(contender: Contender) -> str:
    """Why a contender cannot run here; empty: it can."""
    if contender.cannot:
        return contender.cannot
    try:
        contender.make()
    except Missing as missing:
        return str(missing)
    free = free_gib()
    if free < contender.needs_gib + 1:
        return f"needs {contender.needs_gib:g} GiB, {free:.1f} are free"
    return ""


def time_case(case: Case, repeat: int, limit_seconds: float) -> tuple[list[Row], list[Runner]]:
    """One row a contender with its times, and the runners behind them."""
    runners, rows = [], []
    for contender in case.contenders:
        row: Row = {"case": case.name, "shape": list(case.shape), "contender": contender.name}
        note = hindrance(contender)
        rows.append({**row, "note": note} if note else row)
        if not note:
            inputs = case.inputs(gradients=contender.gradient)
            runners.append(Runner.warmed_up(contender, inputs))
    interleave(runners, repeat, limit_seconds)
    add_times(rows, runners)
    return rows, runners


def add_times(rows: list[Row], runners: list[Runner]) -> None:
    """Medians, spread, and the ratio to the first reference that ran."""
    by_name = {r.contender.name: r for r in runners}
    reference = next(name for name in REFERENCES if name in by_name)
    for row in rows:
        runner = by_name.get(row["contender"])
        if runner is None:
            continue
        row.update(
            median_ms=1e3 * median(runner.seconds),
            min_ms=1e3 * min(runner.seconds),
            max_ms=1e3 * max(runner.seconds),
            rounds=len(runner.seconds),
            calls=runner.calls,
            reference=reference,
            ratio=ratio(runner, by_name[reference]),
            times_ours=ratio(runner, by_name[OURS]),
        )


def memory(case: Case, contender: str, threads: int) -> Row:
    """Seconds and memory of a single pass in a process of its own."""
    return in_own_process("benchmarks.memory", case.name, contender, "--threads", str(threads))


def once(case: Case, threads: int) -> list[Row]:
    """A single pass of each contender that can, timed where its memory is measured."""
    rows = []
    for contender in case.contenders:
        row: Row = {"case": case.name, "shape": list(case.shape), "contender": contender.name}
        note = hindrance(contender)
        if note:
            rows.append({**row, "note": note})
            continue
        found = memory(case, contender.name, threads)
        ms = 1e3 * found.pop("seconds")
        rows.append({**row, "median_ms": ms, "min_ms": ms, "max_ms": ms, "rounds": 1, **found})
    return rows


def add_memory(rows: list[Row], case: Case, threads: int) -> None:
    """The peak of every contender that ran, except the bare products."""
    for row in rows:
        if "median_ms" not in row or row["contender"].startswith(PRODUCT):
            continue
        found = memory(case, row["contender"], threads)
        found.pop("seconds")
        row.update(found)


def at_most(what: str, value: float | None, limit: float) -> Row:
    return {
        "target": what,
        "value": value,
        "limit": limit,
        "met": None if value is None else value <= limit,
    }


def targets(case: Case, rows: list[Row], runners: list[Runner]) -> list[Row]:
    """Each target of the case with what was reached; None: it could not be measured."""
    by_name = {r.contender.name: r for r in runners}

    def reached(target: Target) -> float | None:
        other = by_name.get(target.against)
        return None if other is None else ratio(by_name[OURS], other)

    found = [t.judged(reached(t)) for t in case.targets]
    mine = next(row for row in rows if row["contender"] == OURS)
    if case.peak_mib is not None:
        found.append(at_most(f"peak ≤ {case.peak_mib:g} MiB", mine.get("peak_mib"), case.peak_mib))
    if case.total_mib is not None:
        what = f"≤ {case.total_mib:g} MiB in all"
        found.append(at_most(what, mine.get("total_mib"), case.total_mib))
    return found


def measure(case: Case, threads: int, repeat: int, limit_seconds: float) -> list[Row]:
    """All rows of a case."""
    torch.set_num_threads(threads)
    runners: list[Runner] = []
    if case.once:
        rows = once(case, threads)
    else:
        rows, runners = time_case(case, repeat, limit_seconds)
        add_memory(rows, case, threads)
    about = setting(threads)
    rows[0]["targets"] = targets(case, rows, runners)
    return [{**about, **row} for row in rows]


def shown(row: Row) -> str:
    """A row as a line of text."""
    name = f"  {row['contender']:<46}"
    if "median_ms" not in row:
        return f"{name} {row['note']}"
    spread = f"{row['median_ms']:10.2f} ms ({row['min_ms']:.2f} to {row['max_ms']:.2f})"
    beside = f"{row['ratio']:9.3g} x {row['reference']}" if "ratio" in row else ""
    peak = f"{row['peak_mib']:8.1f} MiB" if "peak_mib" in row else ""
    return f"{name} {spread:<38} {beside:<24} {peak}"


def verdict(found: Row) -> str:
    if found["value"] is None:
        return f"    target {found['target']}: not measured"
    word = "met" if found["met"] else "MISSED"
    return f"    target {found['target']}: {found['value']:.2f}, {word}"


def report(rows: list[Row]) -> None:
    print(f"{rows[0]['case']}, {' x '.join(map(str, rows[0]['shape']))}")
    for row in rows:
        print(shown(row))
    print("\n".join(verdict(found) for found in rows[0]["targets"]), flush=True)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.core", description=__doc__)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeat", type=int, default=5, help="rounds at least")
    parser.add_argument("--limit", type=float, default=60.0, help="seconds of rounds a case")
    parser.add_argument("--only", nargs="+", metavar="NAME", choices=[c.name for c in CASES])
    parser.add_argument("--huge", action="store_true", help="the longest cases too")
    parser.add_argument("--out", type=Path, default=ROWS)
    return parser.parse_args()


def main() -> None:
    """Measure, print, and append every row as soon as its case is done."""
    given = arguments()
    for case in CASES:
        if given.only and case.name not in given.only:
            continue
        if case.huge and not given.huge:
            continue
        rows = measure(case, given.threads, given.repeat, given.limit)
        report(rows)
        given.out.parent.mkdir(parents=True, exist_ok=True)
        with given.out.open("a", encoding="utf-8") as out:
            out.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


if __name__ == "__main__":
    main()
