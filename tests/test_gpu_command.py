"""The command for a person with a GPU, on a CPU: its checks can fail, its workers may die, and rows survive."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from benchmarks.gpu import plot, report, selections, sums
from benchmarks.gpu.arithmetic import BFLOAT16, IEEE, judged
from benchmarks.gpu.jobs import Job, checks
from benchmarks.gpu.place import Place
from benchmarks.gpu.problems import RAGGED, SITUATIONS, Problem
from benchmarks.gpu.supervisor import Budget, Supervisor
from benchmarks.gpu.worker import work
from hardneg import Tiled

PLACE = Place("cpu", small=True, backend="tiled")
ROOT = Path(__file__).resolve().parent.parent


class Broken(Tiled):
    """Wrong in the ways that kernels are: another index, a sum without a tile, a gradient that is off."""

    def select(self, *args: Any, **options: Any) -> Any:
        found = super().select(*args, **options)
        return found._replace(rows=found.rows.flip(0))

    def penalty_sum(self, *args: Any, **options: Any) -> Any:
        found = super().penalty_sum(*args, **options)
        return found._replace(rows=found.rows * 1.001, row_counts=found.row_counts + 1)

    def logsumexp(self, *args: Any, **options: Any) -> Any:
        found = super().logsumexp(*args, **options)
        return found._replace(columns=found.columns.detach() + 0 * found.columns)


class BrokenPlace(Place):
    def executor(self) -> Broken:
        return Broken((5, 7))


@pytest.mark.parametrize("arithmetic", [IEEE, BFLOAT16], ids=str)
@pytest.mark.parametrize("situation", SITUATIONS, ids=lambda s: s.name)
def test_tiled_passes_every_check(situation: object, arithmetic: object) -> None:
    problem = Problem(situation, arithmetic, "cosine", PLACE)
    found = [v for name in sums.REDUCTIONS for v in sums.verdicts(name, problem)]
    found += [v for name in selections.SELECTIONS for v in selections.verdicts(name, problem)]
    assert len(found) > 100
    assert [v for v in found if not v.passed] == []


def test_broken_executors_fail() -> None:
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


def test_names_of_jobs_are_unique() -> None:
    jobs = checks(PLACE)
    assert len(jobs) > 80
    assert {job.stage for job in jobs.values()} > {"correct", "beyond", "graph", "opcheck"}


def test_an_error_is_a_row_and_the_next_job_runs(capsys: pytest.CaptureFixture[str]) -> None:
    def breaks() -> Any:
        yield {"what": "first"}
        raise ValueError("no such kernel")

    jobs = {"a: 1": Job("a: 1", breaks), "a: 2": Job("a: 2", lambda: iter([{"what": "second"}]))}
    assert work(list(jobs), jobs, PLACE) == 0
    lines = [json.loads(text) for text in capsys.readouterr().out.splitlines()]
    rows = [line["row"] for line in lines if "row" in line]
    assert [row.get("what") for row in rows] == ["first", None, "second"]
    assert rows[1]["error"] == "ValueError: no such kernel"
    assert report.failed(rows[1])


class Scripted(Supervisor):
    """Starts a script in place of a worker."""

    script = ""

    def start(self, names: list[str]) -> subprocess.Popen[str]:
        pipe = subprocess.PIPE
        words = [sys.executable, "-c", self.script, *names]
        return subprocess.Popen(words, stdout=pipe, stderr=pipe, text=True)


DIES = """
import json, os, sys
for name in sys.argv[1:]:
    print(json.dumps({"begin": name, "seconds": 0.5}), flush=True)
    if name == "t: dies":
        print("out of bounds", file=sys.stderr, flush=True)
        os._exit(7)
    if name == "t: hangs":
        import time; time.sleep(60)
    print(json.dumps({"row": {"job": name, "stage": "t", "value": 1}}), flush=True)
    print(json.dumps({"end": name}), flush=True)
"""


def test_workers_that_die_or_hang_cost_one_job_each() -> None:
    rows: list[dict[str, Any]] = []
    supervisor = Scripted(PLACE, rows.append)
    supervisor.script = DIES
    supervisor.run(["t: 1", "t: dies", "t: 2", "t: hangs", "t: 3"], 1, Budget(60))
    by_name = {row["job"]: row for row in rows}
    assert len(rows) == 5
    assert all(by_name[name]["value"] == 1 for name in ("t: 1", "t: 2", "t: 3"))
    assert "status 7" in by_name["t: dies"]["error"]
    assert "out of bounds" in by_name["t: dies"]["error"]
    assert by_name["t: hangs"]["error"] == "stopped: it took too long"


def test_without_time_jobs_are_told() -> None:
    rows: list[dict[str, Any]] = []
    Supervisor(PLACE, rows.append).run(["t: 1"], 1, Budget(0))
    assert rows == [{"job": "t: 1", "stage": "t", "not_run": "no time left"}]
    assert report.skipped(rows[0])


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


def test_the_whole_command_in_small(tmp_path: Path) -> None:
    """A check, a measurement with its targets, and rows in the file."""
    out = tmp_path / "gpu.jsonl"
    only = (
        "--only",
        "correct: ties, bfloat16",
        "time: hardest, a million",
        "deterministic: hardest",
    )
    done = command("--small", "--backend", "tiled", "--workers", "1", "--out", str(out), *only)
    assert done.returncode == 0, done.stdout + done.stderr
    rows = [json.loads(line) for line in out.read_text().splitlines()]
    assert {row["stage"] for row in rows} == {"correct", "time", "deterministic"}
    assert all(row["torch"] == torch.__version__ and row["date"] for row in rows)
    timed = next(row for row in rows if row["stage"] == "time")
    assert timed["median_ms"] > 0
    assert [found["target"] for found in timed["targets"]] == ["≤ 4096 MiB in all", "≤ 3 s"]
    assert "targets: 1 met, 0 missed, 1 not measured" in done.stdout
