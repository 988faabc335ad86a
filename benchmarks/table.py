"""Write the table of the benchmarks from the newest rows: ``python -m benchmarks.table docs/benchmarks.md``.

The text between ``<!-- benchmarks -->`` and ``<!-- /benchmarks -->`` is replaced; nothing in it is typed.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from benchmarks.case import OURS, PLAIN, PRODUCT
from benchmarks.cases import CASES
from benchmarks.core import ROWS, Row
from benchmarks.document import write

HEADER = (
    "| case (queries x candidates x width) | hardneg | beside one `torch.mm` | the plain formula takes "
    "| peers take | peak memory: hardneg, plain |\n|---|---|---|---|---|---|"
)
LEGEND = (
    "Forward and backward (evaluation: forward), float32; medians of interleaved rounds. What others "
    "take is in multiples of hardneg's time, the median of the ratios within each round. Peak memory "
    "is that beyond inputs, their normalised copies and gradients; where a single pass was run, all "
    "beyond `import torch`."
)


def newest(rows: list[Row]) -> dict[str, dict[str, Row]]:
    """By case, in the order of ``CASES``: the rows of its latest run, by contender."""
    latest = {row["case"]: row["date"] for row in sorted(rows, key=lambda r: r["date"])}
    chosen: dict[str, dict[str, Row]] = {c.name: {} for c in CASES if c.name in latest}
    for row in rows:
        if row["case"] in chosen and row["date"] == latest[row["case"]]:
            chosen[row["case"]][row["contender"]] = row
    return chosen


def duration(ms: float) -> str:
    return f"{ms / 1000:.2f} s" if ms >= 1000 else f"{ms:.3g} ms"


def size(mib: float) -> str:
    return f"{mib / 1024:.2f} GiB" if mib >= 1024 else f"{mib:.0f} MiB"


def times(value: float) -> str:
    return (
        f"{value:.0f} x" if value >= 100 else f"{value:.2g} x" if value >= 10 else f"{value:.2f} x"
    )


def beside(row: Row | None) -> str:
    """How many times our time another contender takes, or why it has none."""
    if row is None:
        return ""
    return times(row["times_ours"]) if "times_ours" in row else row.get("note", "")


def memory(row: Row | None) -> str:
    if row is None or "peak_mib" not in row:
        return "-"
    return size(row["total_mib"] if row["rounds"] == 1 else row["peak_mib"])


def line(rows: dict[str, Row]) -> str:
    """One case."""
    ours = rows[OURS]
    name = f"{ours['case']} ({' x '.join(f'{x:,}' for x in ours['shape'])})"
    product = times(ours["ratio"]) if ours.get("reference") == PRODUCT else ""
    peers = [
        f"{other}: {beside(row)}"
        for other, row in rows.items()
        if other not in (OURS, PLAIN) and not other.startswith(PRODUCT)
    ]
    peak = f"{memory(ours)}, {memory(rows.get(PLAIN))}"
    cells = (name, duration(ours["median_ms"]), product, beside(rows.get(PLAIN)), "; ".join(peers))
    return "| " + " | ".join((*cells, peak)) + " |"


def measured_on(rows: list[Row]) -> str:
    """Machine, versions, commits and dates of the rows shown."""

    def several(key: str) -> str:
        return ", ".join(dict.fromkeys(str(row[key]) for row in rows if row[key]))

    days = ", ".join(dict.fromkeys(row["date"][:10] for row in rows))
    peers = {f"{k} {v}" for row in rows for k, v in row["peers"].items()}
    return (
        f"{several('cpu')}, {several('threads')} threads; torch {several('torch')}, Python {several('python')}, "
        f"hardneg {several('hardneg')} at {several('commit') or 'no commit'}; {', '.join(sorted(peers))}; {days}."
    )


def table(rows: list[Row]) -> str:
    """The whole block between the markers."""
    chosen = newest(rows)
    lines = [line(by_name) for by_name in chosen.values()]
    shown = [row for by_name in chosen.values() for row in by_name.values()]
    return "\n".join([HEADER, *lines, "", LEGEND, measured_on(shown)])


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.table", description=__doc__)
    parser.add_argument("file", type=Path, nargs="?", help="left out: print the table")
    parser.add_argument("--rows", type=Path, default=ROWS)
    given = parser.parse_args()
    rows = [json.loads(x) for x in given.rows.read_text(encoding="utf-8").splitlines() if x]
    block = table(rows)
    if given.file is None:
        print(block)
        return
    write(given.file, "benchmarks", block)


if __name__ == "__main__":
    main()
