"""Bytes sent and peak memory of a rank: ``python -m benchmarks.ranks``, rows to results/ranks.jsonl.

Beside ``AcrossRanks`` stand the two usual ways, both of which gather queries and candidates with
gradients: each rank's n x N scores of either direction as plain tensors (open_clip's ``local_loss`` with
``gather_with_grad``), and the loss of this library on everything gathered, the same work on every rank.

A rank's bytes follow from what every collective was given, by what ring algorithms send: an all-gather
sends the own part W - 1 times, a reduce-scatter and an all-to-all (W - 1) / W of their input, an all-reduce
twice that, a broadcast and a send their input once. Peak memory is measured as in ``benchmarks.memory``,
beyond the embeddings themselves.
"""

from __future__ import annotations

import argparse
import json
import socket
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from statistics import mean
from typing import Any

import torch
import torch.distributed as dist
import torch.multiprocessing as processes
from torch import Tensor

from benchmarks.document import write
from benchmarks.machine import RESULTS, ROOT, setting
from benchmarks.memory import MIB, forget_peak, peak, resident
from hardneg import ContrastiveLoss, InfoNCELoss
from hardneg.distributed import AcrossRanks
from hardneg.distributed.collectives import GATHER, SCATTER

ROWS, DOCUMENT = RESULTS / "ranks.jsonl", ROOT / "docs" / "scaling.md"
SMALL = 64


class GatherWithGradient(torch.autograd.Function):
    """The rows of all ranks; the gradient is summed by the owner."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        out = x.new_empty(dist.get_world_size() * len(x), x.shape[1])
        getattr(dist, GATHER)(out, x.contiguous())
        return out

    @staticmethod
    def backward(ctx: Any, upstream: Tensor) -> Tensor:
        out = upstream.new_empty(len(upstream) // dist.get_world_size(), upstream.shape[1])
        getattr(dist, SCATTER)(out, upstream.contiguous())
        return out


def unit(x: Tensor) -> Tensor:
    return torch.nn.functional.normalize(x)


def dense_info_nce(own: Tensor, others: Tensor, start: int) -> Tensor:
    target = torch.arange(start, start + len(own))
    return torch.nn.functional.cross_entropy(own @ others.T / 0.07, target) / 2


def dense_hardest(own: Tensor, others: Tensor, start: int) -> Tensor:
    scores = own @ others.T
    rows = torch.arange(len(own))
    x = (0.2 - scores[rows, start + rows][:, None] + scores).clamp(min=0)
    mask = torch.zeros_like(x, dtype=torch.bool)
    mask[rows, start + rows] = True
    return x.masked_fill(mask, 0).amax(1).mean()


LOSSES = {"InfoNCE": (InfoNCELoss, dense_info_nce), "hardest": (ContrastiveLoss, dense_hardest)}


def dense_on_gathered(loss: str) -> Callable[[Tensor, Tensor], Tensor]:
    """Own anchors of both directions against everything gathered."""

    def step(queries: Tensor, candidates: Tensor) -> Tensor:
        q, c = unit(queries), unit(candidates)
        every_q, every_c = GatherWithGradient.apply(q), GatherWithGradient.apply(c)
        term, start = LOSSES[loss][1], dist.get_rank() * len(q)
        return term(q, every_c, start) + term(c, every_q, start)

    return step


def loss_on_gathered(loss: str) -> Callable[[Tensor, Tensor], Tensor]:
    """The whole loss on every rank."""
    module = LOSSES[loss][0]()
    return lambda q, c: module(GatherWithGradient.apply(q), GatherWithGradient.apply(c))


CONTENDERS: dict[str, Callable[[str], Callable[[Tensor, Tensor], Tensor]]] = {
    "AcrossRanks": lambda loss: AcrossRanks(LOSSES[loss][0]()),
    "AcrossRanks, ring": lambda loss: AcrossRanks(LOSSES[loss][0](), ring=True),
    "gather both, dense n x N": dense_on_gathered,
    "gather both, hardneg on N x N": loss_on_gathered,
}


class Traffic:
    """Counts what every collective of this process sends."""

    def __init__(self, size: int) -> None:
        self.sent: Counter[str] = Counter()
        self.calls = 0
        share = (size - 1) / size
        self.watch(GATHER, 1, size - 1)
        self.watch(SCATTER, 1, share)
        self.watch("all_to_all_single", 1, share)
        self.watch("all_reduce", 0, 2 * share)
        self.watch("broadcast", 0, 1)
        plain = dist.batch_isend_irecv

        def counted(operations: list[dist.P2POp]) -> list[dist.Work]:
            own = [o.tensor for o in operations if o.op is dist.isend]
            self.add("send", sum(x.nbytes for x in own))
            return plain(operations)

        dist.batch_isend_irecv = counted

    def watch(self, name: str, argument: int, factor: float) -> None:
        plain = getattr(dist, name)

        def counted(*args: Any, **options: Any) -> Any:
            self.add(name, args[argument].nbytes * factor)
            return plain(*args, **options)

        setattr(dist, name, counted)

    def add(self, name: str, amount: float) -> None:
        self.sent[name] += round(amount)
        self.calls += 1

    def figures(self) -> dict[str, Any]:
        """Of everything since the last ``clear``."""
        by = {name: x / MIB for name, x in self.sent.items()}
        return {"sent_mib": sum(by.values()), "sent_by_mib": by, "collectives": self.calls}

    def clear(self) -> None:
        self.sent.clear()
        self.calls = 0


def measure(rank: int, size: int, port: int, told: dict[str, Any], answers: Any) -> None:
    """One contender on this rank."""
    torch.set_num_threads(1)
    where = f"tcp://127.0.0.1:{port}"
    dist.init_process_group("gloo", init_method=where, rank=rank, world_size=size)
    traffic = Traffic(size)
    step = CONTENDERS[told["contender"]](told["loss"])
    torch.manual_seed(rank)
    inputs = []
    for rows in (SMALL, told["rows"]):
        inputs = [torch.randn(rows, told["width"]).requires_grad_() for _ in range(2)]
        forget_peak()
        traffic.clear()
        before, started = resident(), time.perf_counter()
        value = step(*inputs)
        value.backward()
        dist.barrier()
        seconds = time.perf_counter() - started
    figures = {"value": float(value.detach()), "seconds": seconds}
    answers.put({**figures, **traffic.figures(), "peak_mib": (peak() - before) / MIB})
    dist.destroy_process_group()


def run(told: dict[str, Any]) -> dict[str, Any]:
    """One contender on fresh processes: the largest figures of any rank, and the mean of their values."""
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        port = s.getsockname()[1]
    answers = processes.get_context("spawn").SimpleQueue()
    size = told["ranks"]
    context = processes.spawn(measure, (size, port, told, answers), nprocs=size, join=False)
    found = [answers.get() for _ in range(size)]
    context.join()
    keys = ("sent_mib", "peak_mib", "seconds", "collectives")
    row = {key: max(x[key] for x in found) for key in keys}
    widest = max(found, key=lambda x: x["sent_mib"])
    return {**row, "sent_by_mib": widest["sent_by_mib"], "value": mean(x["value"] for x in found)}


def table() -> str:
    """The latest row of each case as Markdown."""
    latest = {}
    for line in ROWS.read_text(encoding="utf-8").splitlines():
        row = json.loads(line)
        latest[row["loss"], row["ranks"], row["contender"]] = row
    lines = ["| loss | W | way | MiB sent | peak MiB | collectives |", "|---|---|---|---|---|---|"]
    for row in latest.values():
        names = row["loss"], str(row["ranks"]), row["contender"]
        figures = f"{row['sent_mib']:.2f}", f"{row['peak_mib']:.0f}", str(row["collectives"])
        lines.append("| " + " | ".join([*names, *figures]) + " |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--ranks", type=int, nargs="+", default=[2, 4])
    parser.add_argument("--rows", type=int, default=1024, help="rows of each rank")
    parser.add_argument("--width", type=int, default=512)
    parser.add_argument(
        "--write", type=Path, nargs="?", const=DOCUMENT, metavar="FILE", help="the table, no runs"
    )
    given = parser.parse_args()
    if given.write:
        write(given.write, "ranks", table())
        return
    for ranks in given.ranks:
        for loss in LOSSES:
            for contender in CONTENDERS:
                told = {"loss": loss, "contender": contender, "ranks": ranks}
                told |= {"rows": given.rows, "width": given.width}
                row = {**setting(1), **told, **run(told)}
                with ROWS.open("a", encoding="utf-8") as out:
                    out.write(json.dumps(row) + "\n")
                print(
                    json.dumps({**told, **{k: row[k] for k in ("sent_mib", "peak_mib", "seconds")}})
                )


if __name__ == "__main__":
    main()
