"""How many mined negatives people call matches: ``python benchmarks/vsepp_judgements.py --data DIR RUN [RUN ...]``.

Flickr8K comes with judgements of captions beside images that they were not written for (Hodosh, Young, Hockenmaier,
JAIR 2013), of the test split: three experts' marks from 1 to 4 (``ExpertAnnotations``), and the share of a crowd that
says yes (``CrowdFlowerAnnotations``). Each run's model ranks all captions of other images for every image. A row says,
of the judged pairs in each band of ranks, how many people call a match: two of three experts give 3 (minor mistakes)
or more, or 4 (none); or more than half of the crowd says yes.
"""

from __future__ import annotations

import argparse
import gzip
import json
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import torch

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "examples")]

from vsepp.checkpoints import load_model, model_file
from vsepp.data.pairs import read_splits
from vsepp.evaluate import embed, rebuild

ROWS = ROOT / "benchmarks" / "results" / "vsepp_judgements.jsonl"
BANDS = {
    "1": (0, 1),
    "2 to 8": (1, 8),
    "9 to 32": (8, 32),
    "33 to 128": (32, 128),
    "later": (128, 5_000),
}
Marks = list[str]
JUDGES: dict[str, tuple[str, Callable[[Marks], bool]]] = {
    "two of three experts: 3 or 4": ("Expert", lambda m: sum(int(one) >= 3 for one in m) >= 2),
    "two of three experts: 4": ("Expert", lambda m: sum(int(one) >= 4 for one in m) >= 2),
    "more than half of the crowd": ("CrowdFlower", lambda m: float(m[0]) > 0.5),
}  # fmt: skip


def judged(root: Path, names: list[str], kind: str) -> Iterator[tuple[int, int, Marks]]:
    """Image, caption of another image, marks."""
    row = {name: number for number, name in enumerate(names)}
    file = root / "f8k" / f"{kind}Annotations.txt.gz"
    with gzip.open(file, "rt", encoding="utf-8") as lines:
        for line in lines:
            image, caption, *marks = line.split()
            written_for, number = caption.rsplit("#", 1)
            if written_for != image:
                yield row[image], 5 * row[written_for] + int(number), marks


def negative_ranks(run: Path, root: Path) -> torch.Tensor:
    """Of every image and caption of test: how many captions of other images score higher."""
    trained = load_model(model_file(run))
    split = read_splits(trained.settings.data, root).test
    found = embed(rebuild(trained, split), split, trained.vocabulary)
    scores = found.images @ found.captions.T
    own = found.image_of == torch.arange(len(found.images)).unsqueeze(1)
    order = scores.masked_fill(own, -torch.inf).argsort(dim=1, descending=True, stable=True)
    places = torch.arange(scores.shape[1]).expand_as(scores)
    return torch.empty_like(order).scatter_(1, order, places)


def rows_of(run: Path, root: Path) -> Iterator[dict]:
    """A row for each kind of judgement."""
    names = (root / "f8k_precomp" / "test_names.txt").read_text(encoding="utf-8").split()
    ranks = negative_ranks(run, root)
    for said, (kind, match) in JUDGES.items():
        pairs = [(int(ranks[i, j]), match(marks)) for i, j, marks in judged(root, names, kind)]
        bands = {}
        for band, (first, last) in BANDS.items():
            here = [yes for rank, yes in pairs if first <= rank < last]
            bands[band] = {"judged": len(here), "matches": sum(here)}
        command = "python benchmarks/vsepp_judgements.py --data DIR RUN"
        yield {
            "date": time.strftime("%Y-%m-%d"),
            "command": command,
            "run": run.name,
            "match": said,
            "ranks": bands,
        }


def main() -> None:
    """Print and append the rows."""
    reader = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    reader.add_argument("runs", type=Path, nargs="+")
    reader.add_argument("--data", type=Path, required=True)
    reader.add_argument("--out", type=Path, default=ROWS)
    given = reader.parse_args()
    for run in given.runs:
        for row in rows_of(run, given.data):
            print(json.dumps(row), flush=True)
            with given.out.open("a", encoding="utf-8") as stream:
                stream.write(json.dumps(row) + "\n")


if __name__ == "__main__":
    main()
