"""Images a second on one thread: decoding with a random crop, and a network with and without its gradients.

``python benchmarks/vsepp_images.py [--backbone resnet152]``. Pictures are JPEGs of 640 x 480 that the program
makes. Processor time of one thread, which other work on the machine changes little; the rows go beside those of
``vsepp_throughput.py``.
"""

from __future__ import annotations

import argparse
import io
import json
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from PIL import Image

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "examples")]

from hardneg.encoders import ImageEncoder
from vsepp.data.transforms import views

SIZE, BATCH, PICTURES = 224, 8, 48


def pictures() -> list[bytes]:
    """Smooth noise as JPEGs of quality 90: about the size of photographs."""
    random, found = np.random.default_rng(0), []
    for _ in range(8):
        small = random.integers(0, 255, (60, 80, 3), dtype=np.uint8)
        stream = io.BytesIO()
        Image.fromarray(small).resize((640, 480), Image.Resampling.BICUBIC).save(
            stream, "JPEG", quality=90
        )
        found.append(stream.getvalue())
    return found


def decoding() -> Callable[[], int]:
    """The training view of so many pictures."""
    train_view, _ = views("rc", SIZE)
    files = pictures()

    def run() -> int:
        for number in range(PICTURES):
            train_view(Image.open(io.BytesIO(files[number % len(files)])).convert("RGB"))
        return PICTURES

    return run


def encoding(backbone: str, finetune: bool, last: bool) -> Callable[[], int]:
    """A batch through the network, and back where it is trained."""
    torch.manual_seed(0)
    encoder = ImageEncoder(backbone, 1024, weights=None, finetune=finetune)
    if last:
        encoder.cnn.to(memory_format=torch.channels_last)
    images = torch.rand(BATCH, 3, SIZE, SIZE)

    def run() -> int:
        encoder(images).sum().backward()
        return BATCH

    return run


def main() -> None:
    """Print and append a row for each part."""
    reader = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    results = ROOT / "benchmarks" / "results" / "vsepp_throughput.jsonl"
    reader.add_argument("--out", type=Path, default=results)
    reader.add_argument("--backbone", default="resnet152")
    reader.add_argument("--times", type=int, default=3)
    given = reader.parse_args()
    torch.set_num_threads(1)
    cases = {"decoding and random crop": decoding()}
    for finetune in (False, True):
        for last in (False, True):
            kind = "trained" if finetune else "frozen"
            layout = "channels-last" if last else "contiguous"
            cases[f"{given.backbone} {kind}, {layout}"] = encoding(given.backbone, finetune, last)
    found: dict[str, list[float]] = {name: [] for name in cases}
    for _ in range(given.times):
        for name, run in cases.items():
            started = time.process_time()
            count = run()
            found[name].append(count / (time.process_time() - started))
    for name, rates in found.items():
        row = {
            "date": time.strftime("%Y-%m-%d"),
            "case": f"images, {name}, {SIZE} x {SIZE}",
            "images_per_second": round(statistics.median(rates), 2),
            "lowest_highest": [round(min(rates), 2), round(max(rates), 2)],
            "device": f"cpu, {torch.get_num_threads()} thread(s)",
            "torch": torch.__version__,
        }
        print(json.dumps(row))
        with given.out.open("a", encoding="utf-8") as stream:
            stream.write(json.dumps(row) + "\n")


if __name__ == "__main__":
    main()
