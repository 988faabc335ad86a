"""Memory and time of gradient caching: ``python -m benchmarks.grad_cache``, rows to results/grad_cache.jsonl.

Two perceptrons (256 to 256 through four layers of 1,024, GELU) and InfoNCE over 4,096 pairs in float32:
the plain batch, chunks of several sizes, and the loss alone on finished embeddings, which all have in
common. Each contender runs in a process of its own, after one step
on 128 pairs, so that parameters, their gradients and the libraries' own buffers exist. ``peak_mib`` is what
a step then adds to the resident memory (as in ``benchmarks.memory``), ``saved_mib`` the largest sum of what
autograd keeps for backward, parameters apart. Seconds are those of that step; the machine may be busy.
"""

from __future__ import annotations

import argparse
import json
import time
from collections import Counter
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.machine import RESULTS, setting
from benchmarks.memory import MIB, forget_peak, in_own_process, peak, resident
from hardneg import GradCache, InfoNCELoss

ROWS = RESULTS / "grad_cache.jsonl"
PAIRS, WIDTH, HIDDEN, LAYERS = 4096, 256, 1024, 4
CONTENDERS = ("plain", "1024", "256", "64", "loss alone")


def tower() -> nn.Module:
    widths = [WIDTH, *[HIDDEN] * LAYERS]
    layers = [nn.Sequential(nn.Linear(a, b), nn.GELU()) for a, b in pairwise(widths)]
    return nn.Sequential(*layers, nn.Linear(HIDDEN, WIDTH))


class Saved:
    """Counts the bytes that autograd keeps, each storage once."""

    def __init__(self) -> None:
        self.uses: Counter[int] = Counter()
        self.bytes = self.most = 0

    def pack(self, x: Tensor) -> Any:
        return x if isinstance(x, nn.Parameter) or x._base is not None else Kept(x, self)

    @staticmethod
    def unpack(kept: Any) -> Tensor:
        return kept.x if isinstance(kept, Kept) else kept


class Kept:
    """A saved tensor, counted as long as it lives."""

    def __init__(self, x: Tensor, saved: Saved) -> None:
        self.x, self.saved = x.detach(), saved
        self.key, self.size = x.untyped_storage().data_ptr(), x.untyped_storage().nbytes()
        saved.uses[self.key] += 1
        saved.bytes += self.size * (saved.uses[self.key] == 1)
        saved.most = max(saved.most, saved.bytes)

    def __del__(self) -> None:
        self.saved.uses[self.key] -= 1
        self.saved.bytes -= self.size * (self.saved.uses[self.key] == 0)


def step(towers: list[nn.Module], rows: list[Tensor], contender: str) -> None:
    """Gradients of a batch: whole, by chunks, or of the loss alone."""
    if contender == "loss alone":
        InfoNCELoss()(*[x.detach().requires_grad_() for x in rows]).backward()
    elif contender == "plain":
        InfoNCELoss()(*[f(x) for f, x in zip(towers, rows, strict=True)]).backward()
    else:
        GradCache(*towers, chunk_size=int(contender)).backward(InfoNCELoss(), *rows)


def measure(contender: str, threads: int) -> dict[str, Any]:
    """One contender, in this process."""
    torch.set_num_threads(threads)
    torch.manual_seed(0)
    towers, rows = [tower(), tower()], [torch.randn(PAIRS, WIDTH) for _ in range(2)]
    step(towers, [x[:128] for x in rows], contender)
    method, before = forget_peak(), resident()
    started = time.perf_counter()
    step(towers, rows, contender)
    seconds = time.perf_counter() - started
    added, saved = peak() - before, Saved()
    with torch.autograd.graph.saved_tensors_hooks(saved.pack, saved.unpack):
        step(towers, rows, contender)
    found = {"peak_mib": added / MIB, "saved_mib": saved.most / MIB, "seconds": seconds}
    return {"pairs": PAIRS, "contender": contender, **found, "memory_method": method}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--contender", choices=CONTENDERS, help="measure one here, print its row")
    parser.add_argument("--threads", type=int, default=1)
    given = parser.parse_args()
    if given.contender is not None:
        print(json.dumps(measure(given.contender, given.threads)))
        return
    for contender in CONTENDERS:
        words = "--contender", contender, "--threads", str(given.threads)
        found = in_own_process("benchmarks.grad_cache", *words)
        row = {**setting(given.threads), **found}
        with ROWS.open("a", encoding="utf-8") as out:
            out.write(json.dumps(row) + "\n")
        print(f"{contender}: {row['peak_mib']:.0f} MiB, {row['seconds']:.1f} s", flush=True)


if __name__ == "__main__":
    main()
