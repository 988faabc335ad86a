"""What a run comes to: counts by step, what failed, every target, and the lines for the table."""

from __future__ import annotations

from benchmarks.core import verdict
from benchmarks.gpu.report import Row, ended, failed, line, skipped

MOST = 20
"""Failures that are told one by one."""


def summary(rows: list[Row]) -> str:
    """All of it as text."""
    parts = [*counts(rows), *failures(rows), *targets(rows), *winners(rows), *totals(rows)]
    return "\n".join(parts)


def counts(rows: list[Row]) -> list[str]:
    """A line for each stage of which there are rows."""
    stages = dict.fromkeys(row["stage"] for row in rows if "stage" in row)
    found = ["", "stage: jobs done, seconds of all processes; rows, failed; jobs without time"]
    for stage in stages:
        own = [row for row in rows if row.get("stage") == stage]
        done = [row["took"] for row in own if ended(row)]
        bad, late = sum(map(failed, own)), sum(map(skipped, own))
        count = len(own) - late - len(done)
        found.append(f"  {stage}: {len(done)}, {sum(done):.0f} s; {count}, {bad}; {late}")
    return found


def failures(rows: list[Row]) -> list[str]:
    """Once more what broke, since it may have been said long before."""
    bad = [line(row)[:300] for row in rows if failed(row)]
    more = [f"... and {len(bad) - MOST} more"] if len(bad) > MOST else []
    return bad[:MOST] + more


def targets(rows: list[Row]) -> list[str]:
    """Each with what was reached."""
    found = []
    for row in rows:
        for each in row.get("targets", ()):
            found.append(f"{row['case']}: {verdict(each).strip()}")
    return found


def winners(rows: list[Row]) -> list[str]:
    """Lines for ``hardneg/ops/triton/tuning.py``."""
    return [line(row) for row in rows if "winner" in row]


def totals(rows: list[Row]) -> list[str]:
    """The last lines."""
    checked = [row for row in rows if "passed" in row]
    every = [found for row in rows for found in row.get("targets", ())]
    met = sum(found["met"] is True for found in every)
    missed = sum(found["met"] is False for found in every)
    return [
        f"checks: {sum(row['passed'] for row in checked)} of {len(checked)} passed",
        f"errors: {sum('error' in row and 'passed' not in row for row in rows)}",
        f"jobs without time: {sum(map(skipped, rows))}",
        f"targets: {met} met, {missed} missed, {len(every) - met - missed} not measured",
    ]
