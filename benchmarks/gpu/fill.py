"""Fill a folder with the kernels that a run launches, compiled for sm_90 on a CPU: the worker of ``--fill-cache``.

Each job's launches are made on small inputs of the same widths, types and divisibility, inside ``compiling_for``.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Any
from unittest import mock

import torch
from torch import Tensor

from benchmarks.gpu import behaviour, selections, steadiness, sums, tune
from benchmarks.gpu.arithmetic import ARITHMETICS, Arithmetic
from benchmarks.gpu.cases import headline, peer, small_size, wide
from benchmarks.gpu.cases.device_case import DeviceCase
from benchmarks.gpu.jobs import suited
from benchmarks.gpu.losses import LOSSES, drawn, step
from benchmarks.gpu.place import Place
from benchmarks.gpu.problems import PANELS, Problem, problems
from benchmarks.gpu.shipped import compiled, packed, relocated, stripped
from benchmarks.gpu.whole import LOSSES as WHOLE
from benchmarks.gpu.whole import inputs as checked
from benchmarks.gpu.whole import outcome

CAPABILITY = 90
MOST_ROWS = 1024
PLACE = Place("cpu", backend="compile")
Launches = Callable[[], None]


@contextmanager
def zeros() -> Iterator[None]:
    """New memory holds zeros: no kernel runs, and what follows reads indices from it."""

    def kept(x: Tensor, *shape: Any, **about: Any) -> Tensor:
        return Tensor.new_zeros(x, shape[0] if len(shape) == 1 else shape, **about)

    with ExitStack() as stack:
        for owner, name, other in (
            (torch, "empty", torch.zeros),
            (torch, "empty_like", torch.zeros_like),
            (Tensor, "new_empty", kept),
        ):
            stack.enter_context(mock.patch.object(owner, name, other))
        yield


def rows_like(n: int) -> int:
    """Few, as divisible by 16 as many."""
    return n if n <= MOST_ROWS else MOST_ROWS + n % 16


def of_problem(problem: Problem) -> None:
    """Selections and reductions of a problem, without float64 beside them."""
    reductions = problem.situation.reductions
    for name in suited(problem):
        if not reductions or name in reductions:
            quietly(lambda name=name: selections.selected(name, problem))
    anchors = sums.Anchors.of(problem).copied(torch.float32)
    for name, reduction in sums.REDUCTIONS.items():
        if reductions and name not in reductions:
            continue
        with problem.arithmetic.chosen():
            by, x = problem.place.reductions(), problem.comparison
            quietly(partial(sums.outcome, reduction, by, x, anchors))


def of_loss(name: str, n: int, width: int, arithmetic: Arithmetic) -> None:
    """A step of a loss."""
    with arithmetic.chosen():
        inputs = drawn(name, (rows_like(n), width), arithmetic.dtype, "cpu")
        quietly(partial(step, PLACE.loss(LOSSES[name]), inputs))


def of_whole(name: str, width: int, arithmetic: Arithmetic) -> None:
    """A step of a small batch."""
    with arithmetic.chosen():
        inputs = drawn(name, (MOST_ROWS, width), arithmetic.dtype, "cpu")
        quietly(partial(step, LOSSES[name](PLACE.whole()), inputs))


def of_whole_check(name: str, arithmetic: Arithmetic) -> None:
    """A checked step of a small batch."""
    quietly(lambda: outcome(WHOLE[name](backend=PLACE.whole()), *checked(PLACE, arithmetic.dtype)))


def of_case(case: DeviceCase) -> None:
    """A step of ours."""
    of_loss(case.loss, case.shape[0], case.shape[2], Arithmetic(case.dtype, case.products))


def of_tuning(kernel: str, width: int) -> None:
    """Every configuration that is tried."""
    from benchmarks.gpu.configurations import alternatives
    from hardneg.ops.triton.tuning import using

    for key, configuration in alternatives(kernel, width, PLACE):
        with using({key: configuration}):
            of_loss(tune.LOSS_OF[kernel], tune.ROWS, width, Arithmetic(torch.bfloat16))


def quietly(work: Callable[[], object]) -> None:
    """What fails here fails there, or is compiled there: it is told and passed by."""
    try:
        with zeros():
            work()
    except Exception as error:
        print(f"not compiled: {type(error).__name__}: {str(error)[:200]}", file=sys.stderr)


def pieces() -> Iterator[tuple[str, Launches]]:
    """All launches by name, by value: what times need is compiled in a few minutes, what checks need in many."""
    yield from of_measurements()
    yield from of_checks()


def of_measurements() -> Iterator[tuple[str, Launches]]:
    """Cases and configurations."""
    for make in (headline.cases, peer.cases):
        for case in make(PLACE):
            yield f"case: {case.name}", partial(of_case, case)
    for name in small_size.NAMES:
        for dtype in small_size.DTYPES:
            work = partial(of_whole, name, small_size.WIDTH, Arithmetic(dtype))
            yield f"small: {name}, {dtype}", work
    for width in tune.WIDTHS:
        for kernel in tune.LOSS_OF:
            yield f"tune: {kernel}, {width}", partial(of_tuning, kernel, width)
    for case in wide.cases(PLACE):
        yield f"case: {case.name}", partial(of_case, case)


def of_checks() -> Iterator[tuple[str, Launches]]:
    """Losses, then every kernel on every problem."""
    bfloat16, single = Arithmetic(torch.bfloat16), Arithmetic(torch.float32)
    for arithmetic in (bfloat16, Arithmetic(torch.float16), single):
        for name in WHOLE:
            work = partial(of_whole_check, name, arithmetic)
            yield f"whole: {name}, {arithmetic}", work
    for name in steadiness.REPEATED:
        for width in steadiness.WIDTHS:
            work = partial(of_loss, name, steadiness.ROWS, width, bfloat16)
            yield f"bits: {name}, {width}", work
    for name in LOSSES:
        n, d = behaviour.shape(PLACE)
        for arithmetic in (bfloat16, single):
            yield f"loss: {name}, {arithmetic}", partial(of_loss, name, n, d, arithmetic)
        yield f"waits: {name}", partial(of_loss, name, 256, 128, single)
    for problem in problems(PLACE, ARITHMETICS):
        if (
            problem.situation is not PANELS
        ):  # whose kernels are those of one panel, or compiled there
            yield f"problem: {problem}", partial(of_problem, problem)


def piece(name: str) -> tuple[str, float]:
    """One of them, in a process of its own."""
    from hardneg.ops.triton.ahead_of_time import Filler, compiling_for

    torch.set_num_threads(1)
    started = time.perf_counter()
    with compiling_for(CAPABILITY, Filler):
        dict(pieces())[name]()
    return name, time.perf_counter() - started


def fill(folder: Path, only: list[str] | None, workers: int) -> None:
    """Compile all, or what contains one of the texts; then drop what a launch does not need."""
    folder.mkdir(parents=True, exist_ok=True)
    os.environ["TRITON_CACHE_DIR"] = str(folder.resolve())
    chosen = [name for name, _ in pieces() if not only or any(text in name for text in only)]
    relocated(folder)
    with ProcessPoolExecutor(workers, multiprocessing.get_context("spawn")) as pool:
        for done, (name, seconds) in enumerate(pool.map(piece, chosen), 1):
            print(f"{done} of {len(chosen)}: {name}, {seconds:.1f} s", flush=True)
    stripped(folder)
    file = packed(folder)
    size = round(file.stat().st_size / 2**20, 1)
    print(json.dumps({"kernels": compiled(folder), "file": str(file), "mib": size, **made_by()}))


def made_by() -> dict[str, str]:
    """What the folder fits."""
    import triton

    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    return {"python": version, "triton": triton.__version__, "target": f"sm_{CAPABILITY}"}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu.fill", description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--only", nargs="+", metavar="TEXT")
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1)
    given = parser.parse_args()
    fill(given.folder, given.only, given.workers)


if __name__ == "__main__":
    main()
