"""Rows of the studies: one a run, in a file of lines of JSON; a study skips the runs that have one."""

from __future__ import annotations

import json
import math
import platform
from collections.abc import Iterable
from pathlib import Path
from statistics import mean, stdev
from time import strftime
from typing import Any

import torch

from benchmarks.machine import installed

Row = dict[str, Any]


def read(file: Path) -> list[Row]:
    """All rows; none where there is no file."""
    if not file.is_file():
        return []
    return [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]


def append(file: Path, row: Row) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.open("a", encoding="utf-8") as stream:
        stream.write(json.dumps(row, ensure_ascii=False) + "\n")


def matching(rows: Iterable[Row], **wanted: object) -> list[Row]:
    """Those whose fields have these values."""
    return [row for row in rows if all(row.get(key) == value for key, value in wanted.items())]


def setting(*packages: str) -> Row:
    """Where and with which releases a row was measured."""
    return {
        "date": strftime("%Y-%m-%d"),
        "python": platform.python_version(),
        "torch": torch.__version__,
        **{package: installed(package) for package in packages},
        "device": f"cpu, {torch.get_num_threads()} thread(s)",
    }


def mean_and_spread(values: list[float], digits: int = 1) -> str:
    """Mean and sample deviation over the seeds; a dash where there is no value."""
    if not values:
        return "-"
    if len(values) == 1:
        return f"{values[0]:.{digits}f}"
    return f"{mean(values):.{digits}f} ± {stdev(values):.{digits}f}"


T95 = {2: 12.71, 3: 4.30, 4: 3.18, 5: 2.78}
"""Student's t for a two-sided 95 % interval, by the number of seeds."""


def within_spread(a: list[float], b: list[float]) -> bool:
    """Whether the 95 % interval of the mean difference, seed by seed, holds 0."""
    apart = [x - y for x, y in zip(a, b, strict=True)]
    return abs(mean(apart)) <= T95[len(apart)] * stdev(apart) / math.sqrt(len(apart))
