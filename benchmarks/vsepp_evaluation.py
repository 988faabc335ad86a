"""Time and memory of evaluating 5,000 images x 25,000 captions (COCO 5K), both directions.

``python benchmarks/vsepp_evaluation.py``. The embeddings are random with planted pairs, so that
ranks are neither all 0 nor all random. The peak counts the process from its start, embeddings and
torch included; ``added`` is what the evaluation itself put on top.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path

import torch
import torch.nn.functional as F

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "examples")]

from vsepp.retrieval import retrieve
from vsepp.run.memory import peak_memory_mib

IMAGES, CAPTIONS, WIDTH = 5_000, 25_000, 1_024


def embeddings(seed: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Unit images, and unit captions that lean towards their image."""
    generator = torch.Generator().manual_seed(seed)
    images = F.normalize(torch.randn(IMAGES, WIDTH, generator=generator), dim=1)
    captions = torch.randn(CAPTIONS, WIDTH, generator=generator)
    image_of = torch.arange(CAPTIONS) // (CAPTIONS // IMAGES)
    captions += 3.0 * images[image_of]
    return images, F.normalize(captions, dim=1), image_of


def main() -> None:
    """Print and append one row a measure."""
    reader = argparse.ArgumentParser(description=__doc__)
    reader.add_argument("--measure", choices=["cosine", "order"], default="cosine")
    reader.add_argument(
        "--out", type=Path, default=ROOT / "benchmarks" / "results" / "vsepp_evaluation.jsonl"
    )
    given = reader.parse_args()
    images, captions, image_of = embeddings(seed=0)
    before, started = peak_memory_mib(), time.perf_counter()
    found = retrieve(images, captions, image_of, given.measure)
    row = {
        "date": time.strftime("%Y-%m-%d"),
        "case": f"evaluation of {IMAGES} x {CAPTIONS} x {WIDTH}, {given.measure}, both directions",
        "seconds": round(time.perf_counter() - started, 1),
        "peak_memory_mib": round(peak_memory_mib()),
        "added_mib": round(peak_memory_mib() - before),
        "rsum": round(found.rsum, 1),
        "device": f"cpu, {torch.get_num_threads()} thread(s)",
        "torch": torch.__version__,
    }
    print(json.dumps(row))
    given.out.parent.mkdir(parents=True, exist_ok=True)
    with given.out.open("a", encoding="utf-8") as stream:
        stream.write(json.dumps(row) + "\n")


if __name__ == "__main__":
    main()
