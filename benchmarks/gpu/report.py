"""What a run says on the terminal: checks that failed, times, targets, and what is open."""

from __future__ import annotations

from typing import Any

from benchmarks.core import shown, verdict

Row = dict[str, Any]


def failed(row: Row) -> bool:
    """Whether a row tells of something broken (a missed target is not)."""
    return ("error" in row and "passed" not in row) or row.get("passed") is False


def skipped(row: Row) -> bool:
    """Whether there was no time for its job."""
    return "not_run" in row


def line(row: Row) -> str:
    """A row as text; empty for a check that passed."""
    if skipped(row):
        return f"NOT RUN {row['job']}: {row['not_run']}"
    if "passed" in row:
        if row["passed"]:
            return ""
        found = f"error {row['error']:.3g}, allowed {row['allowed']:.3g}"
        return (
            f"FAILED {row['job']} | {row['what']}: {found} (plain PyTorch {row['eager_error']:.3g})"
        )
    if "error" in row:
        return f"ERROR {row['job']}: {row['error']}"
    if "kernel" in row:
        tile = "-".join(str(x) for x in row["configuration"].values())
        time = f"{row['median_ms']:.2f} ms" if "median_ms" in row else row["note"]
        return f"  {row['kernel']} {tile}: {time}"
    return f"{row['case']}: {shown(row)}" + "".join(
        "\n" + verdict(found) for found in row.get("targets", ())
    )


def summary(rows: list[Row]) -> str:
    """Counts, and every target with what was reached."""
    checked = [row for row in rows if "passed" in row]
    targets = [found for row in rows for found in row.get("targets", ())]
    met = sum(found["met"] is True for found in targets)
    missed = sum(found["met"] is False for found in targets)
    lines = [
        f"checks: {sum(row['passed'] for row in checked)} of {len(checked)} passed",
        f"errors: {sum('error' in row and 'passed' not in row for row in rows)}",
        f"jobs without time: {sum(map(skipped, rows))}",
        f"targets: {met} met, {missed} missed, {len(targets) - met - missed} not measured",
    ]
    return "\n".join(lines)
