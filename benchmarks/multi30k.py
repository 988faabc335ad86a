"""English captions find German ones of the same picture: ``python -m benchmarks.multi30k --data DIR study``.

Two small towers (hashed words and word parts, one hidden layer) learn from captions of Multi30k's second task: five
English and five German ones a picture, written independently. First InfoNCE against the batch, at batches of 256, 2,048
and 16,384 pairs and an equal number of pairs seen. Then the same model goes on for two epochs in one of three ways: as
before, with four random captions of other pictures as each query's own negatives, or with the four hardest, which
``hardneg.mine`` finds anew at the start of each epoch. Captions of one picture are never negatives of each other.
The learning rate of each batch size is chosen on validation, with another seed. Four random captions are tried where
the batch holds few (256 and 2,048). ``study`` makes the runs that have no row yet, ``run`` one of them.
"""

from __future__ import annotations

import argparse
import copy
import json
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from torch import nn

from benchmarks.machine import RESULTS
from benchmarks.memory import MIB, forget_peak, peak, resident
from benchmarks.multi30k_captions import Split, splits
from benchmarks.multi30k_training import BATCH, MINED, RANDOM, Budget, embedded, towers, train
from benchmarks.study_rows import Row, append, matching, read, setting
from hardneg.metrics import map_at_k, ranks, recall_at_k

ROWS = RESULTS / "multi30k.jsonl"
BATCHES, SEEDS, CHOICE_SEED = (256, 2048, 16_384), (0, 1, 2), 100
LEARNING_RATES = {256: (3e-3, 1e-2), 2048: (1e-2, 3e-2), 16_384: (1e-2, 3e-2)}
WAYS = {256: (BATCH, RANDOM, MINED), 2048: (BATCH, RANDOM, MINED), 16_384: (BATCH, MINED)}


def measured(model: nn.ModuleDict, data: Split) -> Row:
    """Both directions, in percent: any caption of the picture among the first k, mean average precision."""
    x, y = (embedded(model[language], data[language].bags) for language in ("en", "de"))
    a, b = data["en"].images, data["de"].images
    there, back = ranks(x, y, a, b), ranks(y, x, b, a)
    found = {
        "recall_at_1": recall_at_k(there, 1),
        "recall_at_10": recall_at_k(there, 10),
        "map": map_at_k(x, y, a, b, k=len(y)),
        "back_recall_at_1": recall_at_k(back, 1),
        "back_map": map_at_k(y, x, b, a, k=len(x)),
    }
    return {name: round(100 * value, 2) for name, value in found.items()}


def figures(started: float, before: int) -> Row:
    """Of a training: processor's seconds, and memory beyond what there was."""
    seconds = time.process_time() - started
    return {
        "process_seconds": round(seconds, 1),
        "peak_mib": round((peak() - before) / MIB),
    }


@dataclass(frozen=True)
class Run:
    """One training: the batch size, the learning rate and how it goes on; None: not at all."""

    batch: int
    learning_rate: float
    way: str | None
    seed: int
    split: str

    def command(self) -> str:
        words = f"run --batch {self.batch} --learning-rate {self.learning_rate} --seed {self.seed}"
        way = "" if self.way is None else f" --way '{self.way}'"
        return f"python -m benchmarks.multi30k --data DIR {words}{way} --split {self.split}"

    def first(self, data: dict[str, Split], budget: Budget) -> tuple[nn.ModuleDict, Row]:
        """The model before it goes on."""
        torch.manual_seed(self.seed)
        model = towers(budget.width)
        forget_peak()
        started, before = time.process_time(), resident()
        plan = BATCH, budget.first, self.batch, self.learning_rate
        train(model, data["training"], plan, budget)
        spent = figures(started, before)
        return model, {"before": {**measured(model, data[self.split]), **spent}}

    def then(self, model: nn.ModuleDict, data: dict[str, Split], budget: Budget) -> Row:
        """What it is after."""
        if self.way is None:
            return {}
        torch.manual_seed(1000 + self.seed)
        forget_peak()
        started, before = time.process_time(), resident()
        plan = self.way, budget.then, self.batch, budget.later_rate * self.learning_rate
        train(model, data["training"], plan, budget)
        spent = figures(started, before)
        return {"after": {**measured(model, data[self.split]), **spent}}

    def row(self, found: Row, data: dict[str, Split], budget: Budget) -> Row:
        told = {**asdict(self), **found, **asdict(budget)}
        captions = {split: [len(x.bags) for x in sides.values()] for split, sides in data.items()}
        return {**told, "captions": captions, "command": self.command(), **setting()}


def choices(batches: Sequence[int]) -> list[Run]:
    """Runs among which validation chooses the learning rate."""
    grid = [(batch, rate) for batch in batches for rate in LEARNING_RATES[batch]]
    return [Run(batch, rate, None, CHOICE_SEED, "validation") for batch, rate in grid]


def chosen(rows: list[Row]) -> dict[int, float]:
    """The learning rate of every batch size: that with the highest mean average precision of validation."""
    tried = sorted(matching(rows, split="validation"), key=lambda row: row["before"]["map"])
    return {row["batch"]: row["learning_rate"] for row in tried}


def make(groups: list[list[Run]], data: dict[str, Split], budget: Budget, out: Path) -> None:
    """The runs that have no row; those of a group share what they do first."""
    for group in groups:
        missing = [run for run in group if not matching(read(out), **asdict(run))]
        if not missing:
            continue
        model, before = missing[0].first(data, budget)
        for run in missing:
            after = run.then(copy.deepcopy(model), data, budget)
            append(out, run.row({**before, **after}, data, budget))
            print(run, before, after, flush=True)


def study(data: dict[str, Split], budget: Budget, batches: Sequence[int], out: Path) -> None:
    """Choose, then test."""
    make([[run] for run in choices(batches)], data, budget, out)
    rates = chosen(read(out))
    order = [(seed, batch) for seed in SEEDS for batch in batches]
    tests = [
        [Run(batch, rates[batch], way, seed, "test") for way in WAYS[batch]]
        for seed, batch in order
    ]
    make(tests, data, budget, out)


def main() -> None:
    reader = argparse.ArgumentParser(description=__doc__)
    reader.add_argument("--data", type=Path, required=True, help="the folder raw of task 2")
    reader.add_argument("--threads", type=int, default=1)
    commands = reader.add_subparsers(dest="what", required=True)
    every = commands.add_parser("study")
    every.add_argument("--batches", type=int, nargs="+", choices=BATCHES, default=BATCHES)
    every.add_argument("--out", type=Path, default=ROWS)
    one = commands.add_parser("run")
    one.add_argument("--batch", type=int, default=256)
    one.add_argument("--learning-rate", type=float, default=3e-3)
    one.add_argument("--way", choices=[BATCH, RANDOM, MINED])
    one.add_argument("--seed", type=int, default=0)
    one.add_argument("--split", choices=["validation", "test"], default="validation")
    given = reader.parse_args()
    torch.set_num_threads(given.threads)
    data, budget = splits(given.data), Budget()
    if given.what == "study":
        study(data, budget, given.batches, given.out)
        return
    run = Run(given.batch, given.learning_rate, given.way, given.seed, given.split)
    model, before = run.first(data, budget)
    found = {**before, **run.then(model, data, budget)}
    print(json.dumps(run.row(found, data, budget), ensure_ascii=False))


if __name__ == "__main__":
    main()
