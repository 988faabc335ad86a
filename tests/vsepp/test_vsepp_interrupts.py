"""Ctrl-C and SIGTERM: a checkpoint, a line, an exit status, and the same end after --resume."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

import vsepp.train
from forked_runs import ForkedRun, finish, two_ranks
from test_vsepp_ranks import ALL_THREE, SCRIPT, TORCHRUN
from test_vsepp_ranks import options as of_two
from test_vsepp_resume import PRECOMP, RAW, command, environment, forked, only_run, outcome
from tiny_data import write_flickr, write_precomp
from vsepp.run.interrupts import Interrupts
from vsepp.run.state_folder import newest_state, whole_state


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    base = tmp_path_factory.mktemp("interrupts")
    write_precomp(base / "f8k_precomp")
    write_flickr(base)
    return base


def start(words: list[str]) -> subprocess.Popen:
    """As a terminal would: in a process group of its own."""
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen(words, env=environment(), start_new_session=True, **pipes)


def wait_for(process: subprocess.Popen | ForkedRun, reached) -> None:
    deadline = time.monotonic() + 120
    while not reached():
        assert process.poll() is None, process.communicate()[1]
        assert time.monotonic() < deadline, "the run never got there"
        time.sleep(0.002)


def said_at_the_end(text: str) -> list[str]:
    """The lines beside those that report progress."""
    usual = ("train:", "dev:", "test:", "words,", "parameters on", "epoch ", "resuming")
    return [line for line in text.splitlines() if not any(one in line for one in usual)]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("kind", ["precomp", "raw"])
def test_a_stopped_run_goes_on_to_the_same_end(
    data: Path, tmp_path: Path, kind: str, number: signal.Signals
) -> None:
    """The signal goes to the whole process group, workers that decode images included."""
    # so many epochs that the run cannot end first; the end is compared at a later one
    words = {"precomp": PRECOMP, "raw": RAW}[kind]
    out = tmp_path / "out"
    run = forked(command(data, out, words, "--epochs", "200"))
    wait_for(run, lambda: any(out.glob("*/state-*")))
    os.killpg(run.pid, number)
    _, told = run.communicate(timeout=60)
    assert run.returncode == 128 + number, told
    (line,) = said_at_the_end(told.replace("in epoch", "during").replace("after epoch", "after"))
    name = {signal.SIGINT: "Ctrl-C", signal.SIGTERM: "SIGTERM"}[number]
    assert f"stopped by {name}" in line
    state = whole_state(only_run(out))
    assert f"at step {int(state.name[6:])}: a checkpoint is written" in line
    assert "the same command with --resume goes on from there" in line
    if kind == "precomp" and number == signal.SIGINT:
        epochs = str(2 + int(state.name[6:]) // 25)
        finish(forked(command(data, out, words, "--epochs", epochs, "--resume")))
        finish(forked(command(data, tmp_path / "whole", words, "--epochs", epochs)))
        told_of, whole = outcome(out), outcome(tmp_path / "whole")
        assert len(told_of[0].pop("changes")) == 1  # the number of epochs
        assert whole[0].pop("changes") == []
        assert told_of[0] == whole[0]
        assert all(torch.equal(value, told_of[1][name]) for name, value in whole[1].items())


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_two_processes_stop_at_the_same_step(
    data: Path, tmp_path: Path, number: signal.Signals
) -> None:
    """Under torchrun by Ctrl-C; by SIGTERM without it."""
    given = of_two(data, tmp_path, *ALL_THREE, "--epochs", "200")
    torchrun = [sys.executable, *TORCHRUN, str(SCRIPT), *given]
    runs = [start(torchrun)] if number == signal.SIGINT else two_ranks(given)
    wait_for(runs[0], lambda: any(tmp_path.glob("*/state-*")))
    for run in runs:
        os.killpg(run.pid, number)
    told = "".join(run.communicate(timeout=90)[1] for run in runs)
    lines = [line for line in told.splitlines() if "stopped by" in line]
    assert len(lines) == 1, told
    state = whole_state(only_run(tmp_path))
    assert f"at step {int(state.name[6:])}: a checkpoint is written" in lines[0]
    assert not list(only_run(tmp_path).glob(".*"))


def test_torchrun_that_is_killed_takes_its_processes_along(data: Path, tmp_path: Path) -> None:
    given = of_two(data, tmp_path, *ALL_THREE, "--epochs", "2000")
    run = start([sys.executable, *TORCHRUN, str(SCRIPT), *given])
    wait_for(run, lambda: any(tmp_path.glob("*/state-*")))
    run.kill()
    _, told = run.communicate(timeout=60)  # the pipes close when the last process has ended
    assert "stopped by SIGTERM" in told
    assert whole_state(only_run(tmp_path)) == newest_state(only_run(tmp_path))


def interrupted_in_reading() -> None:
    vsepp.train.read_splits = lambda *_: os.kill(os.getpid(), signal.SIGINT)


def test_ctrl_c_before_the_training_is_a_line(data: Path, tmp_path: Path) -> None:
    run = forked(command(data, tmp_path, PRECOMP), prepare=interrupted_in_reading)
    _, told = run.communicate(timeout=60)
    assert run.returncode == 130
    assert told.splitlines() == ["stopped by Ctrl-C; nothing more was written"]


def test_a_second_ctrl_c_stops_at_once() -> None:
    with Interrupts() as interrupts:
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)  # torchrun repeats it at once
        signal.raise_signal(signal.SIGTERM)
        assert interrupts.asked == signal.SIGINT
        interrupts.since -= 2
        signal.raise_signal(signal.SIGTERM)
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_no_bar_in_a_pipe_and_epochs_from_1(data: Path, tmp_path: Path) -> None:
    words = [one for one in command(data, tmp_path, PRECOMP) if one != "--quiet"]
    run = start(words)
    out, told = run.communicate(timeout=120)
    assert run.returncode == 0
    assert "\r" not in told
    assert "it/s" not in told
    assert [line.split("] ")[1][:8] for line in told.splitlines() if "] epoch" in line] == [
        "epoch 1:",
        "epoch 2:",
    ]
    assert "report:" in out
