"""Workers of the GPU command that raise, hang, die or leave processes behind cost their own row, and the rest runs."""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from benchmarks.gpu import report
from benchmarks.gpu.__main__ import run
from benchmarks.gpu.jobs import Job
from benchmarks.gpu.place import Place
from benchmarks.gpu.process import Worker
from benchmarks.gpu.steps import STEPS, deadlines
from benchmarks.gpu.supervisor import CUT_OFF, Budget, Supervisor
from benchmarks.gpu.worker import work

PLACE = Place("cpu", small=True, backend="tiled")


# In the worker


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


# Around it


class Scripted(Supervisor):
    """Starts a script in place of a worker."""

    script = ""

    def fresh(self) -> Worker:
        return Worker([sys.executable, "-c", self.script], self.environment)


JOBS = """
import json, os, subprocess, sys, time
def say(**line):
    print(json.dumps(line), flush=True)
for name in sys.stdin.read().split("\\n")[:-1]:
    say(begin=name, seconds=0.5 if "hangs" in name else 30)
    if name == "t: dies":
        print("out of bounds", file=sys.stderr, flush=True)
        os._exit(7)
    if "hangs" in name:
        time.sleep(60)
    if name == "t: waits":
        time.sleep(60)
    if name == "t: killed":
        sys.stdout.write('{"row": {"job": "t: killed", "val')
        sys.stdout.flush()
        os.kill(os.getpid(), 9)
    if "child" in name:
        child = subprocess.Popen(["sleep", "60"], start_new_session="afar" in name)
        say(row={"job": name, "stage": "t", "child": child.pid})
        os._exit(0)
    if name == "t: talks":
        while True:
            say(row={"job": name, "stage": "t", "value": 0})
            time.sleep(0.01)
    say(row={"job": name, "stage": "t", "value": 1})
    say(end=name, took=0.1)
"""


def supervised(names: list[str], budget: float, workers: int = 1) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    supervisor = Scripted(PLACE, rows.append)
    supervisor.script = JOBS
    supervisor.run(names, workers, Budget(budget))
    return [row for row in rows if not report.ended(row)]


def test_workers_that_die_or_hang_cost_one_job_each() -> None:
    names = ["t: 1", "t: dies", "t: 2", "t: hangs", "t: 3", "t: killed"]
    rows = supervised(names, 60)
    by_name = {row["job"]: row for row in rows}
    assert len(rows) == 6
    assert all(by_name[name]["value"] == 1 for name in ("t: 1", "t: 2", "t: 3"))
    assert "status 7" in by_name["t: dies"]["error"]
    assert "out of bounds" in by_name["t: dies"]["error"]
    assert by_name["t: hangs"]["error"] == "stopped: it took too long"
    assert "status -9" in by_name["t: killed"]["error"]  # by the system, for want of memory say


def alive(process: int) -> bool:
    """Whether it still runs: one that nobody has waited for is dead all the same."""
    status = Path(f"/proc/{process}/stat")
    return status.exists() and status.read_text().rsplit(")", 1)[1].split()[0] != "Z"


def ends(process: int) -> bool:
    until = time.monotonic() + 5
    while alive(process) and time.monotonic() < until:
        time.sleep(0.05)
    return not alive(process)


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="no /proc")
def test_what_a_worker_started_ends_with_it() -> None:
    """It holds the pipe open, for which nobody may wait."""
    began = time.monotonic()
    rows = supervised(["t: child", "t: 1"], 60)
    assert time.monotonic() - began < 20
    assert ends(rows[0]["child"])
    assert [row.get("value") for row in rows] == [None, None, 1]
    assert "status 0" in rows[1]["error"]


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="no /proc")
def test_a_process_in_a_session_of_its_own_keeps_nobody_waiting() -> None:
    began = time.monotonic()
    rows = supervised(["t: child afar", "t: 1"], 60)
    assert time.monotonic() - began < 20
    assert rows[-1]["value"] == 1
    os.kill(rows[0]["child"], 9)


def test_a_job_that_says_rows_without_end_is_stopped() -> None:
    began = time.monotonic()
    rows = supervised(["t: talks", "t: 1"], 3)
    assert time.monotonic() - began < 20
    assert {row.get("not_run") for row in rows if row["job"] == "t: talks"} == {None, CUT_OFF}
    assert rows[-1] == {"job": "t: 1", "stage": "t", "not_run": "no time left"}


def test_without_time_jobs_are_told() -> None:
    rows = supervised(["t: 1"], 0)
    assert rows == [{"job": "t: 1", "stage": "t", "not_run": "no time left"}]
    assert report.skipped(rows[0])


def test_a_step_that_hangs_leaves_the_others_their_time() -> None:
    rows: list[dict[str, Any]] = []
    supervisor = Scripted(Place("cpu", small=False, backend="tiled"), rows.append)
    supervisor.script = JOBS
    jobs = {step.name: [] for step in STEPS} | {
        "probe": ["t: waits", "t: late"],
        "checks": ["t: 1", "t: hangs 1", "t: hangs 2", "t: 2"],
        "headline": ["t: 3", "t: dies", "t: 4"],
        "beyond 2^31": ["t: 5"],
    }
    limit = sum(step.seconds for step in STEPS) / 8
    began = time.monotonic()
    run(supervisor, jobs, limit, 2)
    supervisor.close()
    assert time.monotonic() - began < limit + 5
    by_name = {row["job"]: row for row in rows if not report.ended(row)}
    assert [by_name[f"t: {i}"].get("value") for i in range(1, 6)] == [1] * 5
    assert by_name["t: waits"]["not_run"] == CUT_OFF
    assert by_name["t: late"]["not_run"] == "no time left"
    assert "error" in by_name["t: hangs 1"]
    assert "status 7" in by_name["t: dies"]["error"]


def test_closed_it_starts_no_more() -> None:
    rows: list[dict[str, Any]] = []
    supervisor = Scripted(PLACE, rows.append)
    supervisor.script = JOBS
    supervisor.warm(2)
    waiting = [worker.process for worker in supervisor.idle]
    supervisor.close()
    for process in waiting:
        assert process.wait(timeout=10) == -9
    supervisor.run(["t: 1"], 1, Budget(60))
    assert [row.get("not_run") for row in rows] == ["no time left"]


def test_deadlines_rise_to_the_limit() -> None:
    found = list(deadlines(470.0).values())
    assert found == sorted(found)
    assert found[-1] == pytest.approx(470.0)
    assert found[0] == pytest.approx(20.0)
