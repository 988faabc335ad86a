"""Several seeds of several recipes, one run after the other; a row is written as each run ends.

``python benchmarks/vsepp_seeds.py vsepp_flickr8k --data DIR --recipe flickr8k-256-vse0
flickr8k-256-vse++ --seeds 0 1 2``. Runs interleave (every recipe with seed 0, then with seed 1), so
that what is there at any moment compares. Called again, it resumes, and skips what has a row.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).parents[1]


def run(given: argparse.Namespace, recipe: str, seed: int) -> Path:
    """One run by the example's own command line; gives its folder."""
    command = [sys.executable, str(ROOT / "examples" / f"{given.script}.py"), "--resume"]
    runs = given.runs if given.precision == "no" else given.runs / given.precision
    command += ["--recipe", recipe, "--seed", str(seed), "--out", str(runs)]
    command += ["--precision", given.precision, "--quiet", "--cpu", "--no-tensorboard"]
    command += ["--data", str(given.data)] if given.data else []
    paths = [str(ROOT), os.environ.get("PYTHONPATH", "")]
    subprocess.run(command, env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)}, check=True)
    return runs / f"{recipe}-seed{seed}"


def row_of(folder: Path, threads: str) -> dict:
    """What a finished run measured."""
    result = json.loads((folder / "result.json").read_text(encoding="utf-8"))
    return {
        "date": time.strftime("%Y-%m-%d"),
        "run": folder.name,
        "results": result["results"],
        "best_epoch": result["best_epoch"],
        "epochs_count_from": 1,
        "dev_rsum": round(result["dev_rsum"], 1),
        "dev_rsum_by_epoch": [round(one["rsum"], 1) for one in result["history"]],
        "loss_by_epoch": [round(one["loss"], 2) for one in result["history"]],
        "seconds_per_epoch": round(result["seconds_per_epoch"], 1),
        "peak_memory_mib": round(result["peak_memory_mib"]),
        "collapse_steps": result["collapse_steps"],
        "tokenizer": result["tokenizer"],
        "torch": result["torch"],
        "device": f"{result['device']}, {threads} thread(s)",
    }


def main() -> None:
    """Run what is not there yet."""
    reader = argparse.ArgumentParser(description=__doc__)
    reader.add_argument("script", choices=["vsepp_coco", "vsepp_flickr30k", "vsepp_flickr8k"])
    reader.add_argument("--recipe", nargs="+", required=True)
    reader.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    reader.add_argument("--data", type=Path)
    reader.add_argument("--precision", choices=["no", "bf16"], default="no")
    reader.add_argument("--runs", type=Path, default=Path("runs"))
    reader.add_argument("--out", type=Path)
    given = reader.parse_args()
    out = given.out or ROOT / "benchmarks" / "results" / f"{given.script}.jsonl"
    out.parent.mkdir(parents=True, exist_ok=True)
    threads = os.environ.get("OMP_NUM_THREADS", str(os.cpu_count()))
    for seed in given.seeds:
        for recipe in given.recipe:
            name = f"{recipe}{'' if given.precision == 'no' else '-bf16'}-seed{seed}"
            if out.is_file() and f'"run": "{name}"' in out.read_text(encoding="utf-8"):
                continue
            row = {**row_of(run(given, recipe, seed), threads), "run": name}
            print(name, row["results"], flush=True)
            with out.open("a", encoding="utf-8") as stream:
                stream.write(json.dumps(row) + "\n")


if __name__ == "__main__":
    main()
