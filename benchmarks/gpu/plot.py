"""Time and memory against n, from the rows of one run: ``python -m benchmarks.gpu.plot ROWS IMAGE``."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

Row = dict[str, Any]


def curves(rows: list[Row], field: str) -> dict[str, list[tuple[int, float]]]:
    """By contender: (n, value), rising."""
    found: dict[str, list[tuple[int, float]]] = {}
    for row in rows:
        growing = row.get("case", "").startswith("n = ") or row.get("case") == "hardest"
        if growing and field in row and row["shape"][2] == 1024:
            found.setdefault(row["contender"], []).append((row["shape"][0], row[field]))
    return {name: sorted(points) for name, points in found.items() if len(points) > 1}


def draw(rows: list[Row], image: Path) -> str:
    """Draw both; returns what to tell."""
    try:
        import matplotlib.pyplot as plt
    except ImportError:
        return "no plot: matplotlib is not installed"
    if not curves(rows, "median_ms"):
        return "no plot: no case ran at two sizes"
    figure, axes = plt.subplots(1, 2, figsize=(11, 4))
    labels = (
        ("median_ms", "forward and backward, ms"),
        ("peak_mib", "memory beyond inputs and gradients, MiB"),
    )
    for axis, (field, label) in zip(axes, labels, strict=True):
        for name, points in curves(rows, field).items():
            axis.loglog(*zip(*points, strict=True), marker="o", label=name)
        axis.set(xlabel="n, queries and candidates", ylabel=label)
        axis.legend()
    device = next((row["device"] for row in rows if "device" in row), "")
    figure.suptitle(f"hardest negatives, bfloat16, width 1024, {device}")
    figure.tight_layout()
    figure.savefig(image, dpi=120)
    plt.close(figure)
    return f"plot: {image}"


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu.plot", description=__doc__)
    parser.add_argument("rows", type=Path)
    parser.add_argument("image", type=Path)
    given = parser.parse_args()
    rows = [json.loads(x) for x in given.rows.read_text(encoding="utf-8").splitlines() if x]
    latest = max(row["run"] for row in rows)
    print(draw([row for row in rows if row["run"] == latest], given.image))


if __name__ == "__main__":
    main()
