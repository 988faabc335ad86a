"""Compile every fused kernel for GPUs that are not there: ``python -m benchmarks.kernels [--write FILE]``.

Says of every kernel, in every number format and for both architectures of the table of configurations,
whether it uses the tensor cores, copies while it multiplies, spills registers and fits into shared memory.
The table goes between two markers of docs/kernels.md; nothing in it is typed. Needs Triton, no GPU.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import sys
from collections.abc import Iterable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

from benchmarks.document import write
from benchmarks.launches import BRIEF, OPERATORS, Sample, samples
from benchmarks.machine import ROOT, commit
from hardneg.similarities import BY_NAME

DOCUMENT = ROOT / "docs" / "kernels.md"
INSTRUCTION = {80: "mma.sync", 90: "wgmma"}


@dataclass(frozen=True)
class Fact:
    """What a kernel came to, and where it was launched from."""

    sample: Sample
    kernel: str
    capability: int
    source: str
    tile: tuple[int, ...]
    warps: int
    stages: int
    registers: int
    stack: int
    shared: int
    tensor_cores: str
    pipelined: bool

    @property
    def multiplies(self) -> bool:
        """Whether it forms matrix products itself; random draws do not look at scores, so theirs are left out."""
        return self.source == "product" and self.sample.operator != "select, random"

    def faults(self, spills: int = 0) -> list[str]:
        """What is wrong with it, where so many bytes of spilled registers are taken."""
        from hardneg.ops.triton.ahead_of_time import SHARED_LIMIT

        found = []
        if self.stack > spills:
            found.append(f"spills {self.stack} bytes a thread")
        if self.shared > SHARED_LIMIT[self.capability]:
            found.append(f"needs {self.shared} bytes of shared memory")
        if self.multiplies and self.tensor_cores != INSTRUCTION[self.capability]:
            found.append(f"uses {self.tensor_cores or 'no tensor cores'}")
        if self.multiplies and not self.pipelined:
            found.append("does not copy while it multiplies")
        return found


def facts(sample: Sample, capability: int) -> list[Fact]:
    """What the kernels of a sample come to."""
    from hardneg.ops.fused_backend import Fused
    from hardneg.ops.triton.ahead_of_time import compiling_for

    with compiling_for(capability) as recorder:
        sample.run(Fused())
    found = []
    for made in recorder.compiled:
        constants = dict(made.constants)
        sizes = (constants.get(f"tile.{name}", 1) for name in ("ROWS", "COLUMNS", "DEPTH"))
        tile = tuple(size for size in sizes if size > 1)
        about = (constants.get("panel.SOURCE", ""), tile, made.warps, made.stages, made.registers)
        rest = (made.stack, made.shared, made.tensor_cores, made.pipelined)
        found.append(Fact(sample, made.kernel, capability, *about, *rest))
    return found


def of_all(chosen: Iterable[Sample], capabilities: Iterable[int], workers: int) -> list[Fact]:
    """The same for many, in processes of their own; what is wrong is told as it comes."""
    jobs = [(sample, capability) for capability in capabilities for sample in chosen]
    context = multiprocessing.get_context("spawn")
    found: dict[Fact, None] = {}
    with ProcessPoolExecutor(workers, mp_context=context) as pool:
        for done, some in enumerate(pool.map(facts, *zip(*jobs, strict=True)), 1):
            for fact in some:
                if fact not in found and fact.faults():
                    print(described(fact), file=sys.stderr, flush=True)
                found[fact] = None
            print(f"{done} of {len(jobs)} compiled", file=sys.stderr, flush=True)
    return list(found)


def described(fact: Fact) -> str:
    """A kernel and what is wrong with it."""
    s = fact.sample
    where = f"{fact.kernel} for sm_{fact.capability} ({s.operator}, {s.arithmetic}, {s.similarity})"
    return f"{where}: {', '.join(fact.faults())}"


def table(found: list[Fact]) -> str:
    """A line for each kernel, source, format and architecture: the worst of its variants."""
    groups: dict[tuple[object, ...], list[Fact]] = {}
    for fact in found:
        arithmetic = fact.sample.arithmetic
        key = (fact.kernel, fact.source, fact.tile, fact.warps, fact.stages, arithmetic)
        groups.setdefault((*key, fact.capability), []).append(fact)
    lines = [
        "| kernel | scores from | format | GPU | tile | warps, stages | registers | spilled | shared memory | "
        "tensor cores |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    lines += [line(group) for _, group in sorted(groups.items(), key=lambda item: str(item[0]))]
    return "\n".join(lines)


def line(group: list[Fact]) -> str:
    """The worst of the variants of one kernel."""
    one = group[0]
    registers = max(fact.registers for fact in group)
    stack = max(fact.stack for fact in group)
    shared = max(fact.shared for fact in group)
    cells = (
        one.kernel.removesuffix("_kernel"),
        one.source or "-",
        one.sample.arithmetic,
        f"sm_{one.capability}",
        " x ".join(map(str, one.tile)),
        f"{one.warps}, {one.stages}",
        str(registers),
        f"{stack} B",
        f"{shared / 1024:.0f} KiB" if shared >= 1024 else f"{shared} B",
        one.tensor_cores or "-",
    )
    return "| " + " | ".join(cells) + " |"


def report(found: list[Fact]) -> int:
    """Say how many variants there are, and how many of them have faults."""
    faulty = sum(bool(fact.faults()) for fact in found)
    print(f"{len(found)} kernels compiled, {faulty} with faults")
    return faulty


def origin(given: argparse.Namespace, count: int) -> str:
    """What was compiled, and with what."""
    which = ", ".join(
        given.only or (["one operator of each kernel, cosine"] if given.brief else ["everything"])
    )
    architectures = ", ".join(f"sm_{capability}" for capability in given.gpu)
    return f"{count} kernels ({which}; {architectures}), Triton {version('triton')}, commit {commit()}."


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.kernels", description=__doc__)
    parser.add_argument("--gpu", type=int, nargs="+", choices=INSTRUCTION, default=[80, 90])
    parser.add_argument("--only", nargs="+", metavar="OPERATOR", choices=OPERATORS)
    parser.add_argument("--brief", action="store_true", help="one of each kernel, cosine alone")
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--write", type=Path, nargs="?", const=DOCUMENT, metavar="FILE")
    return parser.parse_args()


def main() -> None:
    """Compile, tell what is wrong, write the table; exit status 1 where something is."""
    given = arguments()
    operators = tuple(given.only or (BRIEF if given.brief else OPERATORS))
    similarities = ("cosine",) if given.brief else tuple(BY_NAME)
    found = of_all(list(samples(operators, similarities)), given.gpu, given.workers)
    block = f"{origin(given, len(found))}\n\n{table(found)}"
    if given.write:
        write(given.write, "kernels", block)
    else:
        print(block)
    sys.exit(1 if report(found) else 0)


if __name__ == "__main__":
    main()
