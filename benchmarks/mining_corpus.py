"""Mining rows on disk beside faiss's flat index: ``python -m benchmarks.mining_corpus [--threads N] [--rows M]``.

Unit vectors in ``.npy`` files; contenders take turns; process time with one thread, wall time with several; a pair is a
query with a row of the corpus. Memory is the peak of anonymous pages above those before the run: mapped files are not
counted.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import threading
import time
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from statistics import median

import numpy as np
import torch

from benchmarks.machine import RESULTS, setting
from hardneg import TopK
from hardneg.mining import CorpusMiner

ROWS = RESULTS / "mining_corpus.jsonl"
ROUNDS = 3


def anonymous() -> int:
    """Bytes of memory of this process that are no file's."""
    lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    return int(next(line.split()[1] for line in lines if line.startswith("RssAnon"))) * 1024


def peak_of(step: Callable[[], object]) -> tuple[float, int]:
    """Seconds, and the peak of memory above that before."""
    before, peak, done = anonymous(), 0, threading.Event()

    def watch() -> None:
        nonlocal peak
        while not done.wait(0.1):
            peak = max(peak, anonymous())

    watcher = threading.Thread(target=watch)
    watcher.start()
    clock = time.process_time if torch.get_num_threads() == 1 else time.perf_counter
    started = clock()
    step()
    seconds = clock() - started
    done.set()
    watcher.join()
    return seconds, max(0, peak - before)


def write_rows(path: Path, rows: int, width: int, seed: int) -> None:
    """Unit vectors, a part at a time."""
    made = torch.Generator().manual_seed(seed)
    file = np.lib.format.open_memmap(path, "w+", np.float32, (rows, width))
    for start in range(0, rows, 1 << 16):
        part = torch.randn(min(1 << 16, rows - start), width, generator=made)
        file[start : start + len(part)] = torch.nn.functional.normalize(part, dim=1).numpy()
    file.flush()


def ours(folder: Path, k: int, name: str) -> torch.Tensor:
    """The miner, into a folder of its own."""
    miner = CorpusMiner(TopK(k), "dot", memory="1GiB")
    return miner(folder / "queries.npy", folder / "corpus.npy", folder / name).indices


def faiss_flat(folder: Path, k: int) -> torch.Tensor:
    """A flat index of inner products, which copies the corpus."""
    import faiss

    faiss.omp_set_num_threads(torch.get_num_threads())
    index = faiss.IndexFlatIP(np.load(folder / "corpus.npy", mmap_mode="r").shape[1])
    index.add(np.load(folder / "corpus.npy"))
    return torch.from_numpy(index.search(np.load(folder / "queries.npy"), k)[1])


def main() -> None:
    """Measure both, and compare what they found."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--queries", type=int, default=10_000)
    parser.add_argument("--width", type=int, default=64)
    parser.add_argument("--k", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        write_rows(folder / "queries.npy", options.queries, options.width, 0)
        write_rows(folder / "corpus.npy", options.rows, options.width, 1)
        measured: dict[str, list[tuple[float, int]]] = {"ours": [], "faiss flat": []}
        for turn in range(options.rounds):
            found = {"ours": lambda turn=turn: ours(folder, options.k, f"run{turn}")}
            if find_spec("faiss"):
                found["faiss flat"] = lambda: faiss_flat(folder, options.k)
            for name, step in found.items():
                measured[name].append(peak_of(step))
                print(
                    f"{name}: {measured[name][-1][0]:.1f} s, {measured[name][-1][1] / 2**20:.0f} MiB",
                    flush=True,
                )
    for name, turns in measured.items():
        if not turns:
            continue
        seconds = median(one for one, _ in turns)
        row = {
            "case": name,
            "shape": [options.queries, options.rows, options.width],
            "k": options.k,
            "seconds": round(seconds, 2),
            "pairs_a_second": round(options.queries * options.rows / seconds),
            "peak_mib": round(max(one for _, one in turns) / 2**20),
        }
        print(row)
        with ROWS.open("a", encoding="utf-8") as rows:
            rows.write(json.dumps(row | setting(options.threads)) + "\n")


if __name__ == "__main__":
    main()
