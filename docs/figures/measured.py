"""Time and memory beside the plain formula and other libraries, from ``benchmarks/results/core.jsonl``."""

from __future__ import annotations

import json
import math
from typing import NamedTuple

from benchmarks.case import OURS, PLAIN, PRODUCT
from benchmarks.core import ROWS, Row
from benchmarks.small import ROWS as SMALL_ROWS
from benchmarks.table import memory, newest, times
from docs.figures.svg import FAINT, INK, NEGATIVE, QUERY, element, line, picture, words

LEFT, RIGHT, ROW, TOP = 372, 652, 22, 62
LOW, HIGH = 0.25, 512.0
SMALLEST = (32, 128)
SHORT = {
    PLAIN: "plain",
    "open_clip ClipLoss": "open_clip",
    "sentence-transformers formula, one direction": "sentence-transformers",
    "F.linear_cross_entropy, chunked": "F.linear_cross_entropy",
}
"""Names that fit beside the bars."""


class Bar(NamedTuple):
    """What another contender takes, in multiples of hardneg's time."""

    case: str
    contender: str
    ratio: float
    memory: str


def bars_of_core() -> list[Bar]:
    """The newest rows of every case, each contender beside ours."""
    rows: list[Row] = [json.loads(x) for x in ROWS.read_text(encoding="utf-8").splitlines()]
    found = []
    for case, by_name in newest(rows).items():
        n, m, _ = by_name[OURS]["shape"]
        size = f"{case.removesuffix(', 512')} {n:,} x {m:,}"
        for other, row in by_name.items():
            if other == OURS or other.startswith(PRODUCT) or "times_ours" not in row:
                continue
            peaks = f"{memory(by_name[OURS])}, {memory(row)}" if "peak_mib" in row else ""
            found.append(Bar(size, SHORT.get(other, other), row["times_ours"], peaks))
    return found


def bars_of_small() -> list[Bar]:
    """Losses that are slower than the plain formula in the smallest batch, on one thread."""
    last = {}
    for row in map(json.loads, SMALL_ROWS.read_text(encoding="utf-8").splitlines()):
        if row["threads"] == 1 and tuple(row["shape"]) == SMALLEST:
            last[row["case"]] = row["ratio"]
    slower = {case: ratio for case, ratio in last.items() if ratio > 1}
    return [Bar(f"{case} 32 x 32", "plain", 1 / ratio, "") for case, ratio in slower.items()]


def across(ratio: float) -> float:
    """Where a ratio is on the axis."""
    share = math.log(ratio / LOW) / math.log(HIGH / LOW)
    return LEFT + (RIGHT - LEFT) * share


def drawn(bar: Bar, y: float) -> list[str]:
    """One line of the chart."""
    start, end = sorted((across(1), across(bar.ratio)))
    colour = QUERY if bar.ratio >= 1 else NEGATIVE
    name = f"{bar.case}, {bar.contender}"
    return [
        words(LEFT - 12, y + 4, name, text_anchor="end", font_size=12),
        element("rect", x=start, y=y - 6, width=max(end - start, 1.0), height=12, fill=colour),
        words(max(end, across(1)) + 6, y + 4, times(bar.ratio), font_size=12),
        words(RIGHT + 76, y + 4, bar.memory, font_size=12),
    ]


def axis(bottom: float) -> list[str]:
    """Powers of two, and the line at which both take the same time."""
    found = []
    for ratio in (0.25, 1.0, 4.0, 16.0, 64.0, 256.0):
        x = across(ratio)
        found.append(line(x, TOP - 14, x, bottom, stroke=INK if ratio == 1 else FAINT))
        found.append(words(x, TOP - 20, f"{ratio:g} x", text_anchor="middle", font_size=12))
    return found


def chart() -> str:
    """All of them, the largest ratio first."""
    bars = sorted(bars_of_core() + bars_of_small(), key=lambda bar: -bar.ratio)
    bottom = TOP + ROW * len(bars) - 8
    heads = [
        words(
            LEFT,
            20,
            "time, in multiples of hardneg's: blue, hardneg is faster; orange, it is slower",
        ),
        words(RIGHT + 76, TOP - 20, "peak memory: hardneg, other", font_size=12),
    ]
    lines = [part for row, bar in enumerate(bars) for part in drawn(bar, TOP + ROW * row)]
    title = "Time and peak memory of the plain formulas and of other libraries beside hardneg"
    return picture(920, int(bottom + 8), title, [*heads, *axis(bottom), *lines])
