"""Which negatives, at equal budget: ``python benchmarks/vsepp_study.py --data DIR [--only NAME ...] [--seeds 0 1 2]``.

One strong recipe on Flickr8K's features (``flickr8k-strong``), of which every run changes the loss and its negatives
alone. Every variant with one seed, then every variant with the next. A row is written as each run ends, and what has
a row is skipped.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
from pathlib import Path

from vsepp_seeds import ROOT, row_of

RECIPE = "flickr8k-strong"
COMMON = ["--epochs", "6", "--soft-targets", "0"]
HINGES = ["--loss", "contrastive", "--negatives"]
CROSS_ENTROPY = ["--loss", "infonce", "--negatives"]
VARIANTS = {
    "all hinges (VSE0)": [*HINGES, "all"],
    "hardest (VSE++)": [*HINGES, "hardest"],
    "hardest after 2 epochs of all": [*HINGES, "hardest", "--warmup-epochs", "2"],
    "semi-hard": [*HINGES, "semihard"],
    "8 hardest": [*HINGES, "topk:8"],
    "8 hardest below 0.95": [*HINGES, "topk:8", "--ceiling", "0.95"],
    "ranks 2 to 32": [*HINGES, "window:2:32"],
    "selective (SelHN)": [*HINGES, "selective"],
    "InfoNCE, temperature 0.03": [*CROSS_ENTROPY, "all", "--temperature", "0.03"],
    "InfoNCE, temperature 0.05": [*CROSS_ENTROPY, "all", "--temperature", "0.05"],
    "InfoNCE, temperature 0.1": [*CROSS_ENTROPY, "all", "--temperature", "0.1"],
    "InfoNCE, 32 hardest": [*CROSS_ENTROPY, "topk:32", "--temperature", "0.05"],
    "InfoNCE, learned temperature": [*CROSS_ENTROPY, "all", "--learn-temperature"],
    "SigLIP": ["--loss", "sigmoid", "--negatives", "all", "--temperature", "0.1", "--bias", "-5"],
    "8 hardest, queue of 4,096": [*HINGES, "topk:8", "--queue", "4096"],
}


def run(given: argparse.Namespace, name: str, seed: int) -> dict:
    """One run by the trainer's own command line; what it measured, and the processor's seconds."""
    out = given.runs / name.replace(" ", "-").replace(",", "")
    options = [*VARIANTS[name], *COMMON, "--seed", str(seed)]
    command = [sys.executable, str(ROOT / "examples" / "vsepp_flickr8k.py"), "--resume"]
    command += ["--data", str(given.data), "--recipe", RECIPE, *options, "--out", str(out)]
    command += ["--quiet", "--cpu", "--no-tensorboard"]
    paths = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    environment = {**os.environ, "PYTHONPATH": paths}
    subprocess.run(command, env=environment, check=True, stdout=subprocess.DEVNULL)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    seconds = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    threads = os.environ.get("OMP_NUM_THREADS", str(os.cpu_count()))
    row = row_of(out / f"{RECIPE}-seed{seed}", threads)
    chosen = {"variant": name, "seed": seed, "options": options}
    return {**chosen, "process_seconds": round(seconds), **row}


def main() -> None:
    """Run what is not there yet."""
    reader = argparse.ArgumentParser(description=__doc__)
    reader.add_argument("--data", type=Path, required=True)
    reader.add_argument("--only", nargs="+", choices=VARIANTS, default=[*VARIANTS])
    reader.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    reader.add_argument("--runs", type=Path, default=Path("runs/study"))
    rows_file = ROOT / "benchmarks" / "results" / "vsepp_study.jsonl"
    reader.add_argument("--out", type=Path, default=rows_file)
    given = reader.parse_args()
    done = set()
    if given.out.is_file():
        rows = map(json.loads, given.out.read_text(encoding="utf-8").splitlines())
        done = {(row["variant"], row["seed"]) for row in rows}
    for seed in given.seeds:
        for name in given.only:
            if (name, seed) in done:
                continue
            row = run(given, name, seed)
            rsum = row["results"]["test"]["rsum"]
            print(f"{name}, seed {seed}: test rsum {rsum:.1f}", flush=True)
            with given.out.open("a", encoding="utf-8") as stream:
                stream.write(json.dumps(row) + "\n")


if __name__ == "__main__":
    main()
