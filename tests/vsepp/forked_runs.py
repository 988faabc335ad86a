"""The trainer in processes forked from one that has imported it, which takes longer than most of what tests run.

To the trainer such a process is its own: signals, exit status, variables and output. Where its start or its launcher is
what a test is about, or its hash seed, that test starts Python.
"""

import multiprocessing
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import weakref
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
from forked_processes import forking

Prepare = Callable[[], None]


def begin(
    words: Sequence[str], environment: dict[str, str], streams: list[str], prepare: Prepare | None
) -> None:
    """What the forked process does."""
    os.setsid()
    os.environ.update(environment)
    for number, path in enumerate(streams, 1):
        os.dup2(os.open(path, os.O_WRONLY | os.O_APPEND), number)
    sys.stdout, sys.stderr = open(1, "w"), open(2, "w", buffering=1)  # noqa: SIM115
    # the trainer's own workers begin as they do elsewhere
    multiprocessing.set_start_method(None, force=True)
    # forked generators would be in one state
    random.seed()
    np.random.seed()
    if prepare is not None:
        prepare()
    from vsepp.commands import main

    main("flickr8k", words)


class ForkedRun:
    """What tests use of ``subprocess.Popen``; a process group of its own.

    Args:
        words: arguments of ``vsepp_flickr8k.py``.
        variables: added to the environment.
        prepare: called before the trainer, in its process; a function of a module.
    """

    def __init__(
        self,
        words: Sequence[str],
        variables: Mapping[str, str] | None = None,
        prepare: Prepare | None = None,
    ) -> None:
        folder = tempfile.mkdtemp()
        weakref.finalize(self, shutil.rmtree, folder, ignore_errors=True)
        self.streams = [Path(folder, name) for name in ("stdout", "stderr")]
        for stream in self.streams:
            stream.touch()
        told = {"OMP_NUM_THREADS": "1", **(variables or {})}
        given = [*map(str, words)], told, [*map(str, self.streams)], prepare
        self.process = forking().Process(target=begin, args=given)
        self.process.start()
        self.pid = self.process.pid

    @property
    def returncode(self) -> int | None:
        return self.process.exitcode

    def poll(self) -> int | None:
        return self.process.exitcode

    def send_signal(self, number: signal.Signals) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)

    def wait(self, timeout: float | None = None) -> int:
        self.process.join(timeout)
        if self.process.exitcode is None:
            raise subprocess.TimeoutExpired("a forked run", timeout)
        return self.process.exitcode

    def said(self) -> tuple[str, str]:
        """What it has written so far, to both streams."""
        out, error = (stream.read_text() for stream in self.streams)
        return out, error

    def communicate(self, timeout: float | None = None) -> tuple[str, str]:
        try:
            self.wait(timeout)
        finally:
            self.kill()
        return self.said()


def finish(*runs: ForkedRun) -> None:
    """Wait until they have ended well."""
    try:
        for run in runs:
            _, told = run.communicate(timeout=120)
            assert run.returncode == 0, told
    finally:
        for run in runs:
            run.kill()


def two_ranks(words: Sequence[str], prepare: Prepare | None = None) -> list[ForkedRun]:
    """Two processes of one run, as a launcher without an agent starts them."""
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = str(free.getsockname()[1])
    place = {"WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2", "MASTER_ADDR": "localhost"}
    place |= {"MASTER_PORT": port}
    return [
        ForkedRun(words, {**place, "RANK": str(rank), "LOCAL_RANK": str(rank)}, prepare)
        for rank in range(2)
    ]
