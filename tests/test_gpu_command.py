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

from benchmarks.case import OURS, PLAIN, Contender
from benchmarks.gpu import measurements, plot, report, selections, sums
from benchmarks.gpu.arithmetic import BFLOAT16, IEEE, Verdict, judged
from benchmarks.gpu.behaviour import closely
from benchmarks.gpu.cases import DeviceCase
from benchmarks.gpu.jobs import Job, checks
from benchmarks.gpu.place import Place
from benchmarks.gpu.problems import RAGGED, SITUATIONS, Problem
from benchmarks.gpu.supervisor import Budget, Supervisor
from benchmarks.gpu.worker import work
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
    jobs = checks(Place())
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


def test_a_check_that_checks_nothing_is_an_error(capsys: pytest.CaptureFixture[str]) -> None:
    work(["a: 1"], {"a: 1": Job("a: 1", lambda: iter([]))}, PLACE)
    rows = [json.loads(text).get("row") for text in capsys.readouterr().out.splitlines()]
    assert [report.failed(row) for row in rows if row] == [True]


def out_of_memory(*_: torch.Tensor) -> torch.Tensor:
    raise torch.OutOfMemoryError("too large")


@pytest.mark.parametrize("who", [OURS, PLAIN])
def test_only_a_rival_may_run_out_of_memory(who: str) -> None:
    def contender(name: str) -> Contender:
        step = out_of_memory if name == who else lambda a, b: (a * b).sum()
        return Contender(name, lambda: step)

    case = DeviceCase("x", (8, 8, 4), (8, 8, 4), (contender(OURS), contender(PLAIN)), (), None)
    found = measurements.measured(case, PLACE)
    if who == OURS:
        with pytest.raises(torch.OutOfMemoryError):
            list(found)
    else:
        assert [row.get("note") for row in found] == [None, "out of memory"]


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
    if name == "t: killed":
        sys.stdout.write('{"row": {"job": "t: killed", "val')
        sys.stdout.flush()
        os.kill(os.getpid(), 9)
    print(json.dumps({"row": {"job": name, "stage": "t", "value": 1}}), flush=True)
    print(json.dumps({"end": name}), flush=True)
"""


def test_workers_that_die_or_hang_cost_one_job_each() -> None:
    rows: list[dict[str, Any]] = []
    supervisor = Scripted(PLACE, rows.append)
    supervisor.script = DIES
    supervisor.run(["t: 1", "t: dies", "t: 2", "t: hangs", "t: 3", "t: killed"], 1, Budget(60))
    by_name = {row["job"]: row for row in rows}
    assert len(rows) == 6
    assert all(by_name[name]["value"] == 1 for name in ("t: 1", "t: 2", "t: 3"))
    assert "status 7" in by_name["t: dies"]["error"]
    assert "out of bounds" in by_name["t: dies"]["error"]
    assert by_name["t: hangs"]["error"] == "stopped: it took too long"
    assert "status -9" in by_name["t: killed"]["error"]  # by the system, for want of memory say


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
