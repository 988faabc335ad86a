"""A process that is killed: the other ends by itself, soon, and says which one was lost."""

import os
import random
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from test_vsepp_ranks import ALL_THREE, SCRIPT, options
from test_vsepp_resume import environment, only_run
from tiny_data import write_precomp
from vsepp.run.state_folder import states_of, whole_state

SOON = 15.0
ARRIVAL = 90.0
"""Seconds for a process that waits for one which never came: 30, and the start of its own."""


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    write_precomp(tmp_path_factory.mktemp("lost") / "f8k_precomp")
    return tmp_path_factory.getbasetemp() / "lost0"


def start(root: Path, out: Path, log: Path, code: str = "") -> list[subprocess.Popen]:
    """Two processes as a launcher without an agent starts them."""
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    given = options(root, out, *ALL_THREE, "--epochs", "2000", "--resume")
    runs = []
    for rank in range(2):
        place = {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": "2"}
        place |= {"LOCAL_WORLD_SIZE": "2", "MASTER_ADDR": "localhost", "MASTER_PORT": str(port)}
        words = [sys.executable, *(["-c", code] if code else [str(SCRIPT)]), *given]
        with (log / f"rank{rank}").open("w") as stream:
            runs.append(
                subprocess.Popen(
                    words, env={**environment(), **place}, stdout=stream, stderr=stream
                )
            )
    return runs


def end_of(survivor: subprocess.Popen, seconds: float) -> float:
    """How long the survivor took; it is not waited for longer than this."""
    begun = time.monotonic()
    try:
        survivor.wait(timeout=seconds)
    finally:
        survivor.kill()
    return time.monotonic() - begun


def check_told(log: Path, victim: int) -> None:
    told = (log / f"rank{1 - victim}").read_text()
    lost = f"error: rank {victim} of 2 is lost"
    absent = f"error: rank {victim} of 2 has not arrived"
    assert told.count(lost) + told.count(absent) == 1, told
    assert "Traceback" not in told


@pytest.mark.parametrize("victim", [0, 1])
@pytest.mark.parametrize("moment", ["training", "random"])
def test_the_survivor_ends_and_names_the_lost_one(
    data: Path, tmp_path: Path, victim: int, moment: str
) -> None:
    runs = start(data, tmp_path / "out", tmp_path)
    try:
        begun, wait = time.monotonic(), random.Random(victim).uniform(2, 12)
        if moment == "training":
            while not any((tmp_path / "out").glob("*/state-*")):
                assert time.monotonic() - begun < 120
                time.sleep(0.01)
        else:
            time.sleep(wait)
        runs[victim].send_signal(signal.SIGKILL)
        took = end_of(runs[1 - victim], SOON if moment == "training" else ARRIVAL)
    finally:
        for run in runs:
            run.kill()
            run.wait()
    assert runs[1 - victim].returncode == 1, f"after {took:.1f} s"
    check_told(tmp_path, victim)
    if moment == "training":
        folder = only_run(tmp_path / "out")
        assert states_of(folder)
        assert whole_state(folder) is not None


STUCK = """
import os, sys, time
import vsepp.train as train
def stuck(self, batch):
    if os.environ["RANK"] == "1":
        open(sys.argv[sys.argv.index("--out") + 1] + ".stuck", "w").close()
        time.sleep(600)
    plain(self, batch)
plain, train.Trainer.step = train.Trainer.step, stuck
from vsepp.commands import main
main("flickr8k", sys.argv[1:])
"""


def test_a_process_inside_a_collective_ends_too(data: Path, tmp_path: Path) -> None:
    """The first waits for the second in the system's own code, where no Python runs."""
    runs = start(data, tmp_path / "out", tmp_path, STUCK)
    try:
        while not (tmp_path / "out.stuck").exists():
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
    check_told(tmp_path, 1)
