"""Which triplets to train on, judged by unseen classes: ``python -m benchmarks.omniglot --data DIR study``.

A small convolutional network on Omniglot (28 x 28), trained with every selection of triplets that this library and
pytorch-metric-learning have: one budget, the same batches (``ClassBatches``) and initial weights for one seed. The last
five background alphabets are for validation: the margin and the learning rate of every selection are chosen there, by
runs with another seed. The evaluation alphabets are the test set, read by the three runs with what was chosen.
``study`` makes the runs that have no row yet and writes a row as each of them ends; ``run`` makes one of them.
"""

from __future__ import annotations

import argparse
import json
import shlex
import time
from dataclasses import asdict, dataclass
from itertools import product
from pathlib import Path
from statistics import mean

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from benchmarks.machine import RESULTS
from benchmarks.omniglot_selections import LIBRARIES, NAMES, OURS, PEER, SOFT, Step
from benchmarks.study_rows import Row, append, matching, read, setting
from hardneg.metrics import map_at_r, ranks, recall_at_k
from hardneg.training import ClassBatches

ROWS = RESULTS / "omniglot.jsonl"
SIDE, SIZE = 105, 28
MARGINS, LEARNING_RATES = (0.1, 0.3), (1e-3, 3e-3)
SEEDS, CHOICE_SEED = (0, 1, 2), 100
VALIDATION_ALPHABETS = 5


@dataclass(frozen=True)
class Budget:
    """What every run has."""

    steps: int = 300
    classes: int = 32
    rows: int = 4
    width: int = 32
    embedding: int = 64


@dataclass(frozen=True)
class Split:
    """Pictures and their classes."""

    images: Tensor
    labels: Tensor


def alphabet_of(folder: Path) -> list[tuple[str, str]]:
    """(background or evaluation, alphabet) of every class."""
    lines = (folder / "classes.tsv").read_text(encoding="utf-8").splitlines()[1:]
    return [(line.split("\t")[1], line.split("\t")[2]) for line in lines]


def splits(folder: Path) -> dict[str, Split]:
    """Training, validation and test, which share no alphabet."""
    stored = np.load(folder / "omniglot.npz")
    bits = np.unpackbits(stored["images"], axis=1)[:, : SIDE * SIDE]
    pictures = torch.from_numpy(bits).view(-1, 1, SIDE, SIDE)
    small = torch.cat([F.adaptive_avg_pool2d(x.float(), SIZE) for x in pictures.split(2048)])
    labels, classes = torch.from_numpy(stored["label"]).long(), alphabet_of(folder)
    background = sorted({name for part, name in classes if part == "background"})
    held_back = set(background[-VALIDATION_ALPHABETS:])
    parts = [
        "test" if part == "evaluation" else "validation" if name in held_back else "training"
        for part, name in classes
    ]
    of = np.array(parts)[labels.numpy()]
    rows = {part: torch.from_numpy(np.flatnonzero(of == part)) for part in sorted(set(parts))}
    return {part: Split(small[i], labels[i]) for part, i in rows.items()}


class Network(nn.Sequential):
    """Four convolutions and a projection to the unit sphere."""

    def __init__(self, width: int, embedding: int) -> None:
        layers: list[nn.Module] = []
        for channels in (1, width, width, width):
            layers.append(nn.Conv2d(channels, width, 3, stride=2, padding=1, bias=False))
            layers += [nn.BatchNorm2d(width), nn.ReLU()]
        super().__init__(*layers, nn.Flatten(), nn.Linear(4 * width, embedding))

    def forward(self, images: Tensor) -> Tensor:
        return F.normalize(super().forward(images))


def train(data: Split, step: Step, run: Run, budget: Budget) -> tuple[Network, list[float]]:
    """A network, and the loss of every step."""
    torch.manual_seed(run.seed)
    network = Network(budget.width, budget.embedding)
    optimiser = torch.optim.AdamW(network.parameters(), run.learning_rate, weight_decay=1e-4)
    pace = torch.optim.lr_scheduler.OneCycleLR(
        optimiser, run.learning_rate, total_steps=budget.steps
    )
    batches = ClassBatches(data.labels, budget.classes, budget.rows, budget.steps, seed=run.seed)
    losses = []
    for rows in batches:
        loss = step(network(data.images[rows]), data.labels[rows])
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        pace.step()
        losses.append(loss.item())
    return network, losses


@torch.no_grad()
def measured(network: Network, data: Split) -> Row:
    """How unseen classes are told apart; the mean cosine of any two rows, 1 in a collapsed model."""
    network.eval()
    x = torch.cat([network(images) for images in data.images.split(1024)])
    ids = data.labels, data.labels
    found = ranks(x, x, *ids, same_set=True)
    n = len(x)
    cosine = float((x.double().sum(0).square().sum() - n) / (n * (n - 1)))
    return {
        "map_at_r": round(100 * map_at_r(x, x, *ids, same_set=True), 2),
        "recall_at_1": round(100 * recall_at_k(found, 1), 2),
        "mean_cosine": round(cosine, 3),
    }


@dataclass(frozen=True)
class Run:
    """One training and what it is measured on."""

    library: str
    selection: str
    margin: float
    learning_rate: float
    seed: int
    split: str

    def command(self) -> str:
        words = ["--library", self.library, "--margin", str(self.margin)]
        words += ["--learning-rate", str(self.learning_rate), "--seed", str(self.seed)]
        told = shlex.join([self.selection, *words, "--split", self.split])
        return f"python -m benchmarks.omniglot --data DIR run {told}"

    def row(self, data: dict[str, Split], budget: Budget) -> Row:
        """Train, measure."""
        started = time.process_time()
        step = LIBRARIES[self.library][self.selection](self.margin)
        network, losses = train(data["training"], step, self, budget)
        seconds = time.process_time() - started
        return {
            **asdict(self),
            **measured(network, data[self.split]),
            "last_loss": round(mean(losses[-50:]), 4),
            "training_process_seconds": round(seconds, 1),
            **asdict(budget),
            "command": self.command(),
            **setting(PEER),
        }


def choices() -> list[Run]:
    """Runs among which validation chooses, by this library's loss where it has the selection."""
    found = []
    for name in NAMES:
        library = OURS if name in LIBRARIES[OURS] else PEER
        grid = product((0.0,) if name == SOFT else MARGINS, LEARNING_RATES)
        found += [Run(library, name, *point, CHOICE_SEED, "validation") for point in grid]
    return found


def chosen(rows: list[Row]) -> dict[str, tuple[float, float]]:
    """Margin and learning rate of every selection: those with the highest mAP@R of validation."""
    tried = sorted(matching(rows, split="validation"), key=lambda row: row["map_at_r"])
    return {row["selection"]: (row["margin"], row["learning_rate"]) for row in tried}


def tests(points: dict[str, tuple[float, float]]) -> list[Run]:
    """Every selection of both libraries with one seed, then with the next."""
    return [
        Run(library, name, *points[name], seed, "test")
        for seed in SEEDS
        for name in NAMES
        for library in LIBRARIES
        if name in LIBRARIES[library]
    ]


def make(runs: list[Run], data: dict[str, Split], budget: Budget, out: Path) -> None:
    """The runs that have no row."""
    for run in runs:
        if matching(read(out), **asdict(run)):
            continue
        row = run.row(data, budget)
        append(out, row)
        print(run, row["map_at_r"], row["recall_at_1"], flush=True)


def study(data: dict[str, Split], budget: Budget, out: Path) -> None:
    """Choose, then test."""
    make(choices(), data, budget, out)
    make(tests(chosen(read(out))), data, budget, out)


def main() -> None:
    reader = argparse.ArgumentParser(description=__doc__)
    reader.add_argument("--data", type=Path, required=True, help="omniglot.npz and classes.tsv")
    reader.add_argument("--threads", type=int, default=1)
    commands = reader.add_subparsers(dest="what", required=True)
    commands.add_parser("study").add_argument("--out", type=Path, default=ROWS)
    one = commands.add_parser("run")
    one.add_argument("selection", choices=NAMES)
    one.add_argument("--library", choices=LIBRARIES, default=OURS)
    one.add_argument("--margin", type=float, default=0.2)
    one.add_argument("--learning-rate", type=float, default=1e-3)
    one.add_argument("--seed", type=int, default=0)
    one.add_argument("--split", choices=["validation", "test"], default="validation")
    given = reader.parse_args()
    torch.set_num_threads(given.threads)
    data, budget = splits(given.data), Budget()
    if given.what == "study":
        study(data, budget, given.out)
        return
    point = given.margin, given.learning_rate
    run = Run(given.library, given.selection, *point, given.seed, given.split)
    print(json.dumps(run.row(data, budget), ensure_ascii=False))


if __name__ == "__main__":
    main()
