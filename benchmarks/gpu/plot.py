"""Time and memory against n, from the rows of one run: ``python -m benchmarks.gpu.plot ROWS IMAGE``."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from benchmarks.gpu.cases.wide import WIDTH
from benchmarks.gpu.measurements import OUT_OF_MEMORY

Row = dict[str, Any]


def growing(rows: list[Row]) -> list[Row]:
    """The rows of one loss at several n, rising."""
    wide = [row for row in rows if "case" in row and row["shape"][2] == WIDTH]
    chosen = [r for r in wide if r["case"].startswith("n = ") or r["case"] == "hardest"]
    return sorted(chosen, key=lambda row: row["shape"][0])


def curves(rows: list[Row], field: str) -> dict[str, list[tuple[int, float]]]:
    """By contender: (n, value), rising; a logarithm has no place for 0."""
    found: dict[str, list[tuple[int, float]]] = {}
    for row in growing(rows):
        if row.get(field):
            found.setdefault(row["contender"], []).append((row["shape"][0], row[field]))
    return {name: points for name, points in found.items() if len(points) > 1}


def label(name: str, rows: list[Row]) -> str:
    """The contender, and the n from which on it does not fit the device."""
    short = [r for r in growing(rows) if r["contender"] == name and r.get("note") == OUT_OF_MEMORY]
    return f"{name}; out of memory at {short[0]['shape'][0]:,}" if short else name


def draw(rows: list[Row], image: Path) -> str:
    """Draw both; returns what to tell."""
    try:
        import matplotlib.pyplot as plt
    except ImportError:
        return "no plot: matplotlib is not installed"
    if not curves(rows, "median_ms"):
        return "no plot: no case ran at two sizes"
    figure, axes = plt.subplots(1, 2, figsize=(11, 5), layout="constrained")
    titles = {
        "median_ms": "forward and backward (torch.mm: forward), ms",
        "peak_mib": "memory beyond inputs and gradients, MiB",
    }
    sizes = sorted({row["shape"][0] for row in growing(rows)})
    colours = {name: f"C{i}" for i, name in enumerate(curves(rows, "median_ms"))}
    for axis, (field, title) in zip(axes, titles.items(), strict=True):
        for name, points in curves(rows, field).items():
            told = {"color": colours[name], "label": label(name, rows)}
            axis.loglog(*zip(*points, strict=True), marker="o", **told)
        axis.set(xlabel="n, queries and candidates", title=title)
        axis.set_xticks(sizes, [f"{n:,}" for n in sizes], rotation=30)
        axis.minorticks_off()
        axis.grid(alpha=0.3)
    lines = axes[0].get_legend_handles_labels()
    figure.legend(*lines, loc="outside lower center", ncols=len(colours))
    device = next((row["device"] for row in rows if "device" in row), "")
    figure.suptitle(f"hardest negatives, bfloat16, width {WIDTH}, {device}")
    figure.savefig(image, dpi=120)
    plt.close(figure)
    return f"plot: {image}"


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu.plot", description=__doc__)
    parser.add_argument("rows", type=Path)
    parser.add_argument("image", type=Path)
    given = parser.parse_args()
    rows = [json.loads(x) for x in given.rows.read_text(encoding="utf-8").splitlines() if x]
    latest = max(row["date"] for row in rows)
    print(draw([row for row in rows if row["date"] == latest], given.image))


if __name__ == "__main__":
    main()
