"""A process that is killed: the other ends by itself, soon, and says which one was lost."""

import os
import random
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest

import vsepp.run.rank_watch
import vsepp.train
from forked_runs import ForkedRun, two_ranks
from test_vsepp_ranks import ALL_THREE, options
from test_vsepp_resume import only_run
from tiny_data import write_precomp
from vsepp.run.state_folder import states_of, whole_state

SOON = 15.0
ARRIVAL = 5.0
"""Seconds that a process waits here for one which never came."""


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    write_precomp(tmp_path_factory.mktemp("lost") / "f8k_precomp")
    return tmp_path_factory.getbasetemp() / "lost0"


def start(root: Path, out: Path, prepare: Callable[[], None] | None = None) -> list[ForkedRun]:
    return two_ranks(options(root, out, *ALL_THREE, "--epochs", "2000", "--resume"), prepare)


def arrive_soon() -> None:
    vsepp.run.rank_watch.ARRIVAL = ARRIVAL


def end_of(survivor: ForkedRun, seconds: float) -> float:
    """How long the survivor took; it is not waited for longer than this."""
    begun = time.monotonic()
    try:
        survivor.wait(timeout=seconds)
    finally:
        survivor.kill()
    return time.monotonic() - begun


def check_told(survivor: ForkedRun, victim: int) -> None:
    _, told = survivor.said()
    lost = f"error: rank {victim} of 2 is lost"
    absent = f"error: rank {victim} of 2 has not arrived"
    assert told.count(lost) + told.count(absent) == 1, told
    assert "Traceback" not in told


@pytest.mark.parametrize("victim", [0, 1])
@pytest.mark.parametrize("moment", ["training", "random"])
def test_the_survivor_ends_and_names_the_lost_one(
    data: Path, tmp_path: Path, victim: int, moment: str
) -> None:
    runs = start(data, tmp_path / "out", arrive_soon)
    try:
        begun, wait = time.monotonic(), random.Random(victim).uniform(0, 3)
        if moment == "training":
            while not any((tmp_path / "out").glob("*/state-*")):
                assert time.monotonic() - begun < 120
                time.sleep(0.01)
        else:
            time.sleep(wait)
        runs[victim].send_signal(signal.SIGKILL)
        took = end_of(runs[1 - victim], SOON)
    finally:
        for run in runs:
            run.kill()
            run.wait()
    assert runs[1 - victim].returncode == 1, f"after {took:.1f} s"
    check_told(runs[1 - victim], victim)
    if moment == "training":
        folder = only_run(tmp_path / "out")
        assert states_of(folder)
        assert whole_state(folder) is not None


def stuck_in_a_step() -> None:
    """The second process stays in its first step."""
    step = vsepp.train.Trainer.step

    def stuck(self, batch) -> None:
        if os.environ["RANK"] == "1":
            (Path(self.folder).parent / "stuck").touch()
            time.sleep(600)
        step(self, batch)

    vsepp.train.Trainer.step = stuck


def test_a_process_inside_a_collective_ends_too(data: Path, tmp_path: Path) -> None:
    """The first waits for the second in the system's own code, where no Python runs."""
    runs = start(data, tmp_path / "out", stuck_in_a_step)
    try:
        while not (tmp_path / "out" / "stuck").exists():
            assert runs[0].poll() is None
            time.sleep(0.01)
        time.sleep(1)
        os.kill(runs[1].pid, signal.SIGKILL)
        end_of(runs[0], SOON)
    finally:
        for run in runs:
            run.kill()
            run.wait()
    assert runs[0].returncode == 1
    check_told(runs[0], 1)
