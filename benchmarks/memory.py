"""Peak memory of one contender in a process of its own: ``python -m benchmarks.memory CASE CONTENDER``.

Linux keeps the highest resident size of a process (VmHWM) and forgets it when "5" is written to
``/proc/self/clear_refs``. So: import, one pass at the tests' small shape (thread pools and packing
buffers exist from then on), make the inputs, hand freed memory back, note the resident size, forget
the peak, run one forward and backward pass, read the peak. The difference is ``beyond_inputs_mib``;
``peak_mib`` is it less the gradients of the inputs and the normalised copies that the case allows,
and 0 for a pass that never holds all of these at once. Where the peak cannot be
forgotten, ``ru_maxrss`` before and after takes its place; it can only be too low then, by what the
earlier steps had freed.

``total_mib`` starts from the resident size right after ``import torch``, so it holds all the rest.
"""

from __future__ import annotations

import argparse
import ctypes
import gc
import json
import resource
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch

MIB = 2**20
STATUS, CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")


def status(field: str) -> int | None:
    """A size in bytes from /proc/self/status."""
    if not STATUS.exists():
        return None
    line = next(x for x in STATUS.read_text().splitlines() if x.startswith(field + ":"))
    return int(line.split()[1]) * 1024


def peak() -> int:
    """The highest resident size so far, or since it was last forgotten."""
    highest = status("VmHWM")
    if highest is not None:
        return highest
    scale = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * scale


def resident() -> int:
    now = status("VmRSS")
    return peak() if now is None else now


def forget_peak() -> str:
    """Start a new peak; returns the method that measures it."""
    gc.collect()
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)
    try:
        CLEAR.write_text("5")
    except OSError:
        return "ru_maxrss"
    return "VmHWM"


def measure(case_name: str, contender_name: str, threads: int) -> dict[str, float | str]:
    """Run one pass of a contender here, and say what it took."""
    torch.set_num_threads(threads)
    bare = resident()
    from benchmarks.cases import CASES
    from benchmarks.timing import run_once

    case = next(c for c in CASES if c.name == case_name)
    contender = case.contender(contender_name)
    step = contender.make()
    run_once(contender, step, case.at(case.small).inputs(gradients=contender.gradient))
    inputs = case.inputs(gradients=contender.gradient)
    method = forget_peak()
    before = resident()
    started = time.perf_counter()
    run_once(contender, step, inputs)
    seconds = time.perf_counter() - started
    floats = sum(x.numel() * x.element_size() for x in inputs if x.is_floating_point())
    allowed = floats * (case.copies + contender.gradient)
    highest = peak()
    return {
        "seconds": seconds,
        "peak_mib": max(0.0, (highest - before - allowed) / MIB),
        "beyond_inputs_mib": (highest - before) / MIB,
        "total_mib": (highest - bare) / MIB,
        "memory_method": method,
    }


def in_own_process(module: str, *words: str) -> dict[str, Any]:
    """The line of JSON that a module of the benchmarks prints last, run in a fresh Python."""
    command = [sys.executable, "-m", module, *words]
    root = Path(__file__).resolve().parent.parent
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=root)
    if done.returncode:
        raise RuntimeError(f"{module} {' '.join(words)} failed: {done.stderr.strip()[-500:]}")
    return json.loads(done.stdout.splitlines()[-1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("case")
    parser.add_argument("contender")
    parser.add_argument("--threads", type=int, default=2)
    given = parser.parse_args()
    print(json.dumps(measure(given.case, given.contender, given.threads)))


if __name__ == "__main__":
    main()
