"""Seconds for a training step on precomputed features, beside the authors' way of writing it.

``python benchmarks/vsepp_throughput.py [--data DIR]``. The baseline has the same two encoders,
written as the release wrote them: captions sorted by length and packed, every hidden state unpacked
and the last one gathered, the score matrix with its diagonal expanded twice, and Adam with its
default (unfused) update. Beside it also our step with bfloat16 products (``--precision bf16``). All
run the same batches, in turn; the rows give medians of the processor time of one thread, which other
work on the machine changes little, and the ratio to the baseline's.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "examples")]

from vsepp.data.batches import ShuffledBatches
from vsepp.data.images import Features
from vsepp.data.pairs import Batch, Pairs, read_splits
from vsepp.data.vocabulary import build_vocabulary
from vsepp.model import build_model
from vsepp.negatives import strategy_of
from vsepp.objective import build_loss
from vsepp.run.memory import peak_memory_mib
from vsepp.settings import Data, Loss, Model, Schedule

CLIP, RATE, MARGIN, BATCH = 2.0, 2e-4, 0.2, 128


class BaselineText(nn.Module):
    """Sort, embed, pack, run, unpack everything, gather the last step, normalise."""

    def __init__(self, words: int, width: int) -> None:
        super().__init__()
        self.width = width
        self.embed = nn.Embedding(words, 300)
        self.rnn = nn.GRU(300, width, 1, batch_first=True)

    def forward(self, words: Tensor, lengths: Tensor) -> Tensor:
        packed = nn.utils.rnn.pack_padded_sequence(self.embed(words), lengths, batch_first=True)
        states, _ = nn.utils.rnn.pad_packed_sequence(self.rnn(packed)[0], batch_first=True)
        last = (lengths - 1).view(-1, 1, 1).expand(-1, 1, self.width)
        embedded = states.gather(1, last).squeeze(1)
        return embedded / embedded.pow(2).sum(1, keepdim=True).sqrt()


def baseline_loss(images: Tensor, captions: Tensor, hardest: bool) -> Tensor:
    """The hinge matrix of both directions, with its diagonal set to zero."""
    scores = images @ captions.T
    diagonal = scores.diag().view(-1, 1)
    rows = (MARGIN + scores - diagonal.expand_as(scores)).clamp(min=0)
    columns = (MARGIN + scores - diagonal.T.expand_as(scores)).clamp(min=0)
    own = torch.eye(len(scores)) > 0.5
    rows, columns = rows.masked_fill(own, 0), columns.masked_fill(own, 0)
    if hardest:
        return rows.max(1)[0].sum() + columns.max(0)[0].sum()
    return rows.sum() + columns.sum()


def baseline_step(words: int, features: int, width: int, hardest: bool) -> Callable[[Batch], None]:
    """One update, the authors' way."""
    torch.manual_seed(0)
    image, text = nn.Linear(features, width), BaselineText(words, width)
    parameters = [*image.parameters(), *text.parameters()]
    optimiser = torch.optim.Adam(parameters, RATE)

    def step(batch: Batch) -> None:
        lengths, order = batch.lengths.sort(descending=True)
        embedded = image(batch.images[order])
        embedded = embedded / embedded.pow(2).sum(1, keepdim=True).sqrt() if hardest else embedded
        loss = baseline_loss(embedded, text(batch.words[order], lengths), hardest)
        optimiser.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(parameters, CLIP)
        optimiser.step()

    return step


def our_step(
    words: int, features: int, width: int, hardest: bool, half: bool = False
) -> Callable[[Batch], None]:
    """One update, the trainer's way."""
    torch.manual_seed(0)
    model = build_model(Model(embed_dim=width, image_norm=hardest), words, features)
    chosen = "hardest" if hardest else "all"
    loss_of, negatives = build_loss(Loss(chosen)), strategy_of(Loss(chosen))
    optimiser = torch.optim.Adam(model.parameters(), RATE, fused=True)

    def step(batch: Batch) -> None:
        with torch.autocast("cpu", torch.bfloat16, enabled=half):
            images, captions = model(batch.images, batch.words, batch.lengths)
        ids, images, captions = batch.image_ids, images.float(), captions.float()
        loss = loss_of(images, captions, query_ids=ids, candidate_ids=ids, negatives=negatives)
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), CLIP)
        optimiser.step()
        optimiser.zero_grad()

    return step


def timed(
    steps: dict[str, Callable[[Batch], None]], batches: list[Batch]
) -> dict[str, list[float]]:
    """Milliseconds of every step, the implementations taking turns on each batch."""
    found: dict[str, list[float]] = {name: [] for name in steps}
    for number, batch in enumerate(batches):
        for name, step in steps.items():
            started = time.process_time()
            step(batch)
            if number >= 3:
                found[name].append(1e3 * (time.process_time() - started))
    return found


def real_batches(root: Path, count: int) -> tuple[list[Batch], int, int, int]:
    """Batches of Flickr8K's features, the vocabulary's size, the features' width, steps an
    epoch.
    """
    train = read_splits(Data("flickr8k"), root).train
    assert isinstance(train.images, Features)
    vocabulary = build_vocabulary(train.captions, "regex", 4, "train")
    pairs = Pairs(train, vocabulary, seed=0)
    batches = ShuffledBatches(pairs, Schedule(batch_size=BATCH))
    drawn = [pairs.__getitems__(picks) for _, picks in zip(range(count), batches, strict=False)]
    return drawn, len(vocabulary), train.images.array.shape[-1], len(batches)


def main() -> None:
    """Print and append a row for each width and loss."""
    reader = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    reader.add_argument("--data", type=Path, default=ROOT.parent / "shared" / "data")
    reader.add_argument(
        "--out", type=Path, default=ROOT / "benchmarks" / "results" / "vsepp_throughput.jsonl"
    )
    reader.add_argument("--steps", type=int, default=40)
    reader.add_argument("--widths", type=int, nargs="+", default=[256, 1024])
    given = reader.parse_args()
    torch.set_num_threads(1)
    batches, words, features, per_epoch = real_batches(given.data, given.steps)
    for width in given.widths:
        for hardest in (False, True):
            steps = {
                "authors' way": baseline_step(words, features, width, hardest),
                "hardneg": our_step(words, features, width, hardest),
                "hardneg, bf16": our_step(words, features, width, hardest, half=True),
            }
            kind = "max" if hardest else "sum"
            found = timed(steps, batches)
            slowest = statistics.median(found["authors' way"])
            for name, times in found.items():
                row = {
                    "date": time.strftime("%Y-%m-%d"),
                    "case": f"step, batch {BATCH}, embedding {width}, {kind}",
                    "backend": name,
                    "median_ms": round(statistics.median(times), 1),
                    "of_the_authors": round(statistics.median(times) / slowest, 2),
                    "quartiles_ms": [
                        round(one, 1) for one in statistics.quantiles(times, n=4)[::2]
                    ],
                    "seconds_per_epoch": round(statistics.median(times) * per_epoch / 1e3, 1),
                    "peak_memory_mib": round(peak_memory_mib()),
                    "device": f"cpu, {torch.get_num_threads()} thread(s)",
                    "torch": torch.__version__,
                }
                print(json.dumps(row))
                with given.out.open("a", encoding="utf-8") as stream:
                    stream.write(json.dumps(row) + "\n")


if __name__ == "__main__":
    main()
