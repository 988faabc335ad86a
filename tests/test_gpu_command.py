"""The command for a person with a GPU, on a CPU: its checks can fail, its workers may die, and rows survive."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch

from benchmarks.gpu import plot, selections, sums
from benchmarks.gpu.__main__ import SMALL_JOBS
from benchmarks.gpu.arithmetic import BFLOAT16, IEEE, Verdict, judged
from benchmarks.gpu.behaviour import closely
from benchmarks.gpu.place import Place
from benchmarks.gpu.problems import RAGGED, SITUATIONS, Problem
from benchmarks.gpu.steps import every_job
from hardneg.ops.tiled_backend import Tiled, TiledScores

PLACE = Place("cpu", small=True, backend="tiled")
ROOT = Path(__file__).resolve().parent.parent


class BrokenScores(TiledScores):
    """Wrong in the ways that kernels are: another index, a sum without a tile, a gradient that is off."""

    def select(self, search: Any) -> Any:
        found = super().select(search)
        return found._replace(rows=found.rows.flip(0))

    def penalty_sum(self, terms: Any) -> Any:
        found = super().penalty_sum(terms)
        return found._replace(rows=found.rows * 1.001, row_counts=found.row_counts + 1)

    def logsumexp(self, terms: Any) -> Any:
        found = super().logsumexp(terms)
        return found._replace(columns=found.columns.detach() + 0 * found.columns)


class Broken(Tiled):
    def scores(self, comparison: Any) -> BrokenScores:
        whole = super().scores(comparison)
        return BrokenScores(whole.comparison, whole.engine)


class BrokenPlace(Place):
    def reductions(self) -> Broken:
        return Broken((5, 7))


@pytest.mark.parametrize("arithmetic", [IEEE, BFLOAT16], ids=str)
@pytest.mark.parametrize("situation", SITUATIONS, ids=lambda s: s.name)
def test_tiled_passes_every_check(situation: object, arithmetic: object) -> None:
    problem = Problem(situation, arithmetic, "cosine", PLACE)
    found = [v for name in sums.REDUCTIONS for v in sums.verdicts(name, problem)]
    found += [v for name in selections.SELECTIONS for v in selections.verdicts(name, problem)]
    assert len(found) > 100
    assert [v for v in found if not v.passed] == []


def test_broken_backends_fail() -> None:
    problem = Problem(RAGGED, IEEE, "cosine", BrokenPlace("cpu", True, "tiled"))

    def failed(check: Any, name: str) -> set[str]:
        return {v.what for v in check(name, problem) if not v.passed}

    assert failed(selections.verdicts, "hardest") == {"rows"}
    assert failed(selections.verdicts, "random") == {"rows"}
    assert {"rows", "row_counts"} <= failed(sums.verdicts, "penalty_sum logistic")
    assert "gradient of candidates" in failed(sums.verdicts, "logsumexp")
    assert failed(sums.verdicts, "pair_scores") == set()


def test_missing_results_are_no_match() -> None:
    one = torch.ones(3)
    assert not judged("x", one * torch.nan, one, one, torch.float32).passed
    assert not judged("x", torch.ones(2), one, one, torch.float32).passed
    assert not judged("x", one * torch.inf, one, one, torch.float32).passed
    assert judged("x", one, one, one, torch.float32).passed
    assert not closely("x", (one, one * torch.nan), (one, one)).passed
    assert closely("x", (one,), (one,)).passed


def test_an_unbounded_allowance_is_no_pass() -> None:
    one = torch.ones(3)
    assert not judged("x", one, one * torch.inf, one, torch.float32).passed
    assert not Verdict("x", 0.0, torch.inf, torch.inf).passed


def test_names_of_jobs_are_unique() -> None:
    jobs = every_job(Place())
    assert len(jobs) > 150
    assert {job.stage for job in jobs.values()} > {"correct", "beyond", "graph", "opcheck", "tune"}


def test_plot_of_rows(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    rows = [
        {"case": f"n = {n}", "shape": [n, n, 1024], "contender": who, "median_ms": n, "peak_mib": 9}
        for n in (8, 16)
        for who in ("hardneg", "torch.mm")
    ]
    image = tmp_path / "plot.png"
    assert plot.draw(rows, image) == f"plot: {image}"
    assert image.stat().st_size > 1000
    assert plot.draw(rows[:1], image) == "no plot: no case ran at two sizes"
    short = [{"case": "n = 32", "shape": [32, 32, 1024], "contender": "x", "note": "out of memory"}]
    assert plot.label("x", short) == "x; out of memory at 32"
    assert plot.curves([{**row, "peak_mib": 0.0} for row in rows], "peak_mib") == {}


def command(*words: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    words = (sys.executable, "-m", "benchmarks.gpu", *words)
    return subprocess.run(
        words, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300, check=False
    )


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_without_a_gpu_the_command_says_so() -> None:
    done = command()
    assert done.returncode == 2
    assert done.stderr.startswith("no CUDA device")
    assert len(done.stderr.splitlines()) == 1


def test_a_name_that_no_job_has_is_no_success() -> None:
    done = command("--small", "--only", "corect")
    assert done.returncode == 2
    assert done.stderr == "no job's name contains corect: --list names them\n"


def test_the_whole_command_in_small(tmp_path: Path) -> None:
    """A check, a measurement with its targets, and rows in the file."""
    out = tmp_path / "gpu.jsonl"
    only = (
        "--only",
        "correct: ties, bfloat16",
        "headline: hardest, a million",
        "deterministic: hardest",
    )
    done = command("--small", "--backend", "tiled", "--workers", "1", "--out", str(out), *only)
    assert done.returncode == 0, done.stdout + done.stderr
    rows = [json.loads(line) for line in out.read_text().splitlines()]
    assert {row["stage"] for row in rows} == {"correct", "headline", "deterministic"}
    assert all(row["torch"] == torch.__version__ and row["date"] for row in rows)
    assert all(row["small"] for row in rows)  # never to be taken for a GPU's
    timed = [row for row in rows if "median_ms" in row]
    assert [row["contender"] for row in timed] == ["hardneg", "torch.mm"]
    assert [found["target"] for found in timed[0]["targets"]] == ["≤ 4096 MiB in all", "≤ 2 s"]
    assert "targets: 1 met, 0 missed, 1 not measured" in done.stdout


def test_each_kind_of_job_runs_in_small() -> None:
    names = list(every_job(PLACE))
    for text in SMALL_JOBS:
        assert any(text in name for name in names), text
    kinds = {name.split(":")[0] for name in names}
    assert kinds == {name.split(":")[0] for text in SMALL_JOBS for name in names if text in name}


def test_interrupted_it_says_what_it_has(tmp_path: Path) -> None:
    out = tmp_path / "gpu.jsonl"
    words = [sys.executable, "-m", "benchmarks.gpu", "--small", "--backend", "tiled"]
    words += ["--workers", "1", "--out", str(out), "--only", "probe", "correct"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    pipe = subprocess.PIPE
    with subprocess.Popen(words, cwd=ROOT, env=environment, stdout=pipe, text=True) as running:
        until = time.monotonic() + 120
        while not (out.exists() and "passed" in out.read_text()) and time.monotonic() < until:
            time.sleep(0.1)
        running.terminate()
        said, _ = running.communicate(timeout=60)
    assert running.returncode == 128 + signal.SIGTERM
    assert "jobs without time" in said
