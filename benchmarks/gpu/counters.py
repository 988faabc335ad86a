"""What the two kernels that matter most do: times and occupancy by torch.profiler, hardware counters by ncu if it may.

The profiler needs no privileges; Nsight Compute needs the counters' permission, and its absence is a row.
"""

from __future__ import annotations

import csv
import io
import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch.profiler import ProfilerActivity, profile

from benchmarks.gpu.jobs import Job, Row
from benchmarks.gpu.losses import LOSSES, drawn, step
from benchmarks.gpu.place import Place
from benchmarks.machine import ROOT

KERNELS = {"best": "hardest", "dense": "all (hinge)"}
"""A part of the kernel's name, and the loss that launches it."""
SHAPE, TINY = (16_384, 1024), (16, 8)
NCU_SECONDS = 30.0
SECTIONS = ("SpeedOfLight", "Occupancy", "WarpStateStats", "MemoryWorkloadAnalysis")
SHOWN = 6
ASKED = (
    "grid",
    "block",
    "registers per thread",
    "shared memory",
    "warps per SM",
    "est. achieved occupancy %",
)
"""What the profiler's trace says of a launch."""


def workload(place: Place, loss: str, steps: int = 2) -> None:
    """A few steps, the first of which compiles."""
    inputs = drawn(loss, TINY if place.small else SHAPE, torch.bfloat16, place.device)
    for _ in range(steps):
        step(place.loss(LOSSES[loss]), inputs)
    place.synchronize()


def traced(place: Place, loss: str) -> list[dict[str, Any]]:
    """The launches of a step, as the profiler's trace has them; on a CPU its operators."""
    workload(place, loss)
    kind = ProfilerActivity.CUDA if place.device == "cuda" else ProfilerActivity.CPU
    with profile(activities=[kind], acc_events=True) as found:
        workload(place, loss, 1)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "trace.json"
        found.export_chrome_trace(str(file))
        events = json.loads(file.read_text(encoding="utf-8"))["traceEvents"]
    wanted = "kernel" if place.device == "cuda" else "cpu_op"
    return [event for event in events if event.get("cat") == wanted]


def profiled(place: Place, loss: str) -> Iterator[Row]:
    """The launches that take longest, and the sum of all."""
    events = traced(place, loss)
    total = sum(event["dur"] for event in events)
    yield {"profile": loss, "what": "all launches", "count": len(events), "us": total}
    groups: dict[str, list[dict[str, Any]]] = {}
    for event in events:
        groups.setdefault(event["name"], []).append(event)
    ranked = sorted(groups.items(), key=lambda item: -sum(e["dur"] for e in item[1]))
    for name, group in ranked[:SHOWN]:
        us = sum(event["dur"] for event in group)
        details = {key: group[0].get("args", {}).get(key) for key in ASKED}
        row: Row = {"profile": loss, "what": name[:90], "count": len(group), "us": us}
        yield {**row, "share": us / max(total, 1e-9), **{k: v for k, v in details.items() if v}}


def counted(place: Place, kernel: str) -> Iterator[Row]:
    """Nsight Compute on one launch of a kernel; why not, where it cannot."""
    tool, row = shutil.which("ncu"), {"counters": kernel}
    if tool is None or place.device != "cuda":
        yield {**row, "note": "ncu is not on the path" if tool is None else "no GPU"}
        return
    sections = [word for name in SECTIONS for word in ("--section", name)]
    words = [tool, "--csv", "--page", "details", "--clock-control", "none", *sections]
    words += ["--kernel-name", f"regex:{kernel}", "--launch-skip", "1", "--launch-count", "1"]
    words += [sys.executable, "-m", "benchmarks.gpu.counters", KERNELS[kernel]]
    told = {"capture_output": True, "text": True, "cwd": ROOT, "check": False}
    try:
        done = subprocess.run(words, timeout=NCU_SECONDS, **told)
    except subprocess.TimeoutExpired:
        yield {**row, "note": f"ncu took more than {NCU_SECONDS:g} s"}
        return
    values = metrics(done.stdout)
    if values:
        yield {**row, "values": values}
    else:
        yield {**row, "note": f"ncu says: {(done.stdout + done.stderr).strip()[-400:]}"}


def metrics(text: str) -> dict[str, str]:
    """The metrics of ncu's table, which follows lines of its own and of the program."""
    lines = text.splitlines()
    start = next((i for i, line in enumerate(lines) if line.startswith('"ID"')), None)
    if start is None:
        return {}
    found = {}
    for row in csv.DictReader(io.StringIO("\n".join(lines[start:]))):
        if row.get("Metric Name") and row.get("Metric Value"):
            found[row["Metric Name"]] = (
                f"{row['Metric Value']} {row.get('Metric Unit') or ''}".strip()
            )
    return found


def jobs(place: Place) -> Iterator[Job]:
    """The profiler first: it can always."""
    for loss in KERNELS.values():
        yield Job(f"counters: profile, {loss}", partial(profiled, place, loss), 30.0)
    for kernel in KERNELS:
        yield Job(f"counters: ncu, {kernel}", partial(counted, place, kernel), NCU_SECONDS + 10)


if __name__ == "__main__":
    workload(Place(), sys.argv[1])
