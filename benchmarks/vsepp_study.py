"""What negatives do, at equal budget: ``python benchmarks/vsepp_study.py --data DIR [--table NAME ...]``.

One strong recipe on Flickr8K's features (``flickr8k-strong`` with one member, half its learning rate, no soft targets,
six epochs), of which every table changes one thing: the loss and its negatives; the size of the batch; whether captions
of one image count as each other's negatives; how many negatives a pair meets. Every variant with one seed, then every
variant with the next. A row is written as each run ends and holds its command; what has a row is skipped.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import shlex
import subprocess
import sys
from pathlib import Path

from vsepp_seeds import ROOT, row_of

ROWS = ROOT / "benchmarks" / "results" / "vsepp_study.jsonl"
RECIPE = "flickr8k-strong"
COMMON = ["--epochs", "6", "--learning-rate", "1e-3", "--soft-targets", "0"]
COMMON += ["--members", "1", "--embed-dim", "512"]
HINGES = ["--loss", "contrastive", "--negatives"]
CROSS_ENTROPY = ["--loss", "infonce", "--negatives"]
NEGATIVES = {
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
    "8 hardest, and 2 of its own": [*HINGES, "topk:8", "--own-negatives", "2"],
    "InfoNCE, temperature 0.05, and 2 of its own below 0.95": [
        *[*CROSS_ENTROPY, "all", "--temperature", "0.05"],
        *["--own-negatives", "2", "--ceiling", "0.95"],
    ],
    "8 hardest, queue of 4,096": [*HINGES, "topk:8", "--queue", "4096"],
}


def batch_of(size: int) -> list[str]:
    """A batch of another size: the step grows as its square root, the rise and the average in pairs seen."""
    rate, rise, ema = 1e-3 * (size / 512) ** 0.5, 51_200 // size, 0.99 ** (size / 512)
    schedule = ["--learning-rate", f"{rate:.2g}", "--rise", str(rise), "--ema", f"{ema:.5f}"]
    return ["--batch-size", str(size), *schedule]


SIZES = (32, 128, 2_048, 4_096)
ANY_ORDER = ["--captions-each", "0"]
SETS = (1, 8, 32)
TABLES: dict[str, dict[str, list[str]]] = {
    "negatives": NEGATIVES,
    "batch": {
        f"{name}, batch of {size:,}": [*NEGATIVES[name], *batch_of(size)]
        for size in SIZES
        for name in ("8 hardest", "InfoNCE, temperature 0.05")
    },
    "masking": {
        f"{name}, captions in any order, {said}": [*NEGATIVES[name], *ANY_ORDER, option]
        for name in ("hardest after 2 epochs of all", "8 hardest")
        for said, option in (
            ("left out", "--no-strict-parity"),
            ("taken as negatives", "--strict-parity"),
        )
    },
    "set size": {
        f"{name}, {count} negatives": [*NEGATIVES[name], *batch_of(128), *chosen]
        for count, chosen in [*((n, ["--negatives-from", str(n)]) for n in SETS), (127, [])]
        for name in ("all hinges (VSE0)", "hardest (VSE++)")
        if count > 1 or name == "hardest (VSE++)"  # one negative is the hardest, and all
    },
}


def command(given: argparse.Namespace, name: str, options: list[str], seed: int) -> list[str]:
    """The trainer's own command line."""
    out = given.runs / "".join(one if one.isalnum() else "-" for one in name)
    script = str(Path("examples", "vsepp_flickr8k.py"))
    chosen = ["--recipe", RECIPE, *COMMON, *options, "--seed", str(seed), "--out", str(out)]
    return [script, "--data", str(given.data), *chosen]


def run(given: argparse.Namespace, table: str, name: str, seed: int) -> dict:
    """One run; what it measured, and the processor's seconds."""
    options = TABLES[table][name]
    words = command(given, name, options, seed)
    out = Path(words[-1])
    paths = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(
        [sys.executable, *words, "--resume", "--quiet", "--cpu", "--no-tensorboard"],
        env={**os.environ, "PYTHONPATH": paths},
        cwd=ROOT,
        check=True,
        stdout=subprocess.DEVNULL,
    )
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    seconds = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    threads = os.environ.get("OMP_NUM_THREADS", str(os.cpu_count()))
    row = row_of(out / f"{RECIPE}-seed{seed}", threads)
    told = f"python {shlex.join([words[0], '--data', 'DIR', *words[3:-2]])}"
    chosen = {"table": table, "variant": name, "seed": seed, "command": told}
    return {**chosen, "process_seconds": round(seconds), **row}


def main() -> None:
    """Run what is not there yet."""
    reader = argparse.ArgumentParser(description=__doc__)
    reader.add_argument("--data", type=Path, required=True)
    reader.add_argument("--table", nargs="+", choices=TABLES, default=[*TABLES])
    reader.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    reader.add_argument("--runs", type=Path, default=Path("runs/study"))
    reader.add_argument("--out", type=Path, default=ROWS)
    given = reader.parse_args()
    given.data, given.runs = given.data.absolute(), given.runs.absolute()
    done = set()
    if given.out.is_file():
        rows = map(json.loads, given.out.read_text(encoding="utf-8").splitlines())
        done = {(row["variant"], row["seed"]) for row in rows}
    for table in given.table:
        for seed in given.seeds:
            for name in TABLES[table]:
                if (name, seed) in done:
                    continue
                row = run(given, table, name, seed)
                rsum = row["results"]["test"]["rsum"]
                print(f"{name}, seed {seed}: test rsum {rsum:.1f}", flush=True)
                with given.out.open("a", encoding="utf-8") as stream:
                    stream.write(json.dumps(row) + "\n")


if __name__ == "__main__":
    main()
