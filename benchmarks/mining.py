"""Mining beside other exact searches: ``python -m benchmarks.mining [--threads N] [--only K ...]``.

The k hardest negatives of every query: ours with nothing left out, by ids, and below a ceiling for each query; a loop
over blocks of ``matmul`` and ``torch.topk``, which leaves nothing out; faiss's flat index where faiss is installed.
Process time with one thread, wall time with several; contenders take turns, and a ratio is the median of those within
a round.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from statistics import median

import torch
from torch import Tensor

from benchmarks.machine import RESULTS, setting
from hardneg.negatives.selection import Selection
from hardneg.ops.comparison import OPEN, Comparison, Relation, Window
from hardneg.ops.requests import Search
from hardneg.ops.tiled_backend import Tiled
from hardneg.similarities import Dot

SIZES = ((2000, 200_000, 64), (1000, 50_000, 64))
NEIGHBOURS = (2, 8, 16, 100)
BLOCK = 1024, 8192
ROUNDS = 3
ROWS = RESULTS / "mining.jsonl"


@dataclass(frozen=True, eq=False)
class Mined:
    """Unit vectors; the first candidates are noisy copies of the queries."""

    queries: Tensor
    candidates: Tensor

    @classmethod
    def of(cls, n: int, m: int, width: int) -> Mined:
        """Drawn with a fixed seed."""
        made = torch.Generator().manual_seed(0)
        q, c = (torch.randn(rows, width, generator=made) for rows in (n, m))
        c[:n].add_(q, alpha=2)
        return cls(*(torch.nn.functional.normalize(x, dim=1) for x in (q, c)))

    def ours(self, k: int, relation: Relation, window: Window = OPEN) -> Tensor:
        """The tiled selection."""
        comparison = Comparison(self.queries, self.candidates, Dot(), relation)
        search = Search(Selection("highest", k), "negatives", window, columns=False)
        return Tiled().scores(comparison).select(search).rows

    def open(self, k: int) -> Tensor:
        """No pair is left out: no global numbers are equal."""
        return self.ours(k, Relation(row_offset=len(self.candidates)))

    def by_ids(self, k: int) -> Tensor:
        """Every query's own copy is left out."""
        ids = torch.arange(len(self.candidates))
        return self.ours(k, Relation(ids[: len(self.queries)], ids))

    def below_copy(self, k: int) -> Tensor:
        """What scores below every query's own copy."""
        own = (self.queries * self.candidates[: len(self.queries)]).sum(1)
        relation = Relation(row_offset=len(self.candidates))
        return self.ours(k, relation, Window(row_ceiling=own - 1e-5))

    def chunked(self, k: int) -> Tensor:
        """``matmul`` and ``torch.topk`` of blocks, merged."""
        found = []
        for q in self.queries.split(BLOCK[0]):
            best, held = q.new_empty(len(q), 0), torch.empty(len(q), 0, dtype=torch.long)
            for first, c in enumerate(self.candidates.split(BLOCK[1])):
                values, places = (q @ c.T).topk(min(k, len(c)), dim=1)
                values, held = (
                    torch.cat([best, values], 1),
                    torch.cat([held, places + first * BLOCK[1]], 1),
                )
                best, order = values.topk(min(k, values.shape[1]), dim=1)
                held = held.gather(1, order)
            found.append(held)
        return torch.cat(found)

    def faiss(self, k: int) -> Tensor:
        """A flat index of inner products."""
        import faiss

        faiss.omp_set_num_threads(torch.get_num_threads())
        index = faiss.IndexFlatIP(self.candidates.shape[1])
        index.add(self.candidates.numpy())
        return torch.from_numpy(index.search(self.queries.numpy(), k)[1])


Step = Callable[[Mined, int], Tensor]
CONTENDERS: dict[str, Step] = {
    "chunked matmul + topk": Mined.chunked,
    "ours": Mined.open,
    "ours, by ids": Mined.by_ids,
    "ours, below a ceiling": Mined.below_copy,
}
if find_spec("faiss"):
    CONTENDERS["faiss flat"] = Mined.faiss
BASELINE = "chunked matmul + topk"


def compare(mined: Mined, k: int, steps: dict[str, Step]) -> dict[str, dict[str, float]]:
    """Milliseconds of every contender, and the ratio to the loop over blocks."""
    clock = time.process_time if torch.get_num_threads() == 1 else time.perf_counter
    seconds: dict[str, list[float]] = {name: [] for name in steps}
    for _ in range(ROUNDS):
        for name, step in steps.items():
            started = clock()
            step(mined, k)
            seconds[name].append(clock() - started)
    return {
        name: {
            "milliseconds": round(median(mine) * 1e3, 1),
            "ratio": round(median(a / b for a, b in zip(mine, seconds[BASELINE], strict=True)), 3),
        }
        for name, mine in seconds.items()
    }


def main() -> None:
    """Measure every size and number of neighbours, a row for each contender."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--only", nargs="*", type=int, default=NEIGHBOURS, help="values of k")
    parser.add_argument("--sizes", nargs="*", type=int, default=[0, 1], help="places in SIZES")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    for place in options.sizes:
        mined = Mined.of(*SIZES[place])
        for k in options.only:
            for name, found in compare(mined, k, CONTENDERS).items():
                print(
                    f"{SIZES[place]}, k = {k:3}: {name:22} {found['milliseconds']:8.1f} ms, {found['ratio']:.2f} x"
                )
                row = {"case": name, "shape": SIZES[place], "k": k, **found}
                with ROWS.open("a", encoding="utf-8") as rows:
                    rows.write(json.dumps(row | setting(options.threads)) + "\n")


if __name__ == "__main__":
    main()
