"""Process groups of this machine for tests: started once for each size, then given many things to do."""

from __future__ import annotations

import socket
import tempfile
import traceback
from collections.abc import Callable
from datetime import timedelta
from multiprocessing.connection import Connection
from typing import Any

import torch
import torch.distributed as dist
from forked_processes import forking
from warning_filters import filter_warnings

TIMEOUT = 60


def free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return int(s.getsockname()[1])


def work(pipe: Connection, rank: int, size: int, meeting: str, timeout: float) -> None:
    """A rank: does what it is told until it is told nothing."""
    torch.set_num_threads(1)
    filter_warnings()
    dist.init_process_group(
        "gloo",
        init_method=meeting,
        rank=rank,
        world_size=size,
        timeout=timedelta(seconds=timeout),
    )
    while (task := pipe.recv()) is not None:
        function, arguments = task
        try:
            pipe.send((True, function(rank, size, *arguments)))
        except Exception:
            pipe.send((False, traceback.format_exc()))
    dist.destroy_process_group()


class ProcessGroup:
    """``size`` processes joined by gloo, one thread each.

    They meet at rank 0, or with ``store_apart`` in a file, which outlives every rank.
    """

    def __init__(self, size: int, timeout: float = TIMEOUT, store_apart: bool = False) -> None:
        context = forking()
        meeting = f"tcp://127.0.0.1:{free_port()}"
        if store_apart:
            meeting = f"file://{tempfile.mkdtemp()}/meeting"
        self.pipes, self.processes = [], []
        for rank in range(size):
            ours, theirs = context.Pipe()
            process = context.Process(
                target=work, args=(theirs, rank, size, meeting, timeout), daemon=True
            )
            process.start()
            theirs.close()
            self.pipes.append(ours)
            self.processes.append(process)

    def tell(self, function: Callable[..., Any], *arguments: Any) -> list[tuple[bool, Any]]:
        """``function(rank, size, *arguments)`` on every rank: (whether it returned, result or traceback)."""
        for pipe in self.pipes:
            pipe.send((function, arguments))
        answers = []
        for rank, pipe in enumerate(self.pipes):
            try:
                assert pipe.poll(2 * TIMEOUT), f"rank {rank} hangs in {function.__name__}"
                answers.append(pipe.recv())
            except (EOFError, ConnectionResetError):
                answers.append((False, "died"))
        return answers

    def __call__(self, function: Callable[..., Any], *arguments: Any) -> list[Any]:
        """The results of all ranks, none of which may raise."""
        answers = self.tell(function, *arguments)
        failed = [(rank, text) for rank, (fine, text) in enumerate(answers) if not fine]
        assert not failed, "\n".join(f"rank {rank}: {text}" for rank, text in failed)
        return [result for _, result in answers]

    def close(self) -> None:
        """End the processes that are still there."""
        for pipe in self.pipes:
            try:
                pipe.send(None)
            except (BrokenPipeError, OSError):
                continue
        for process in self.processes:
            process.join(5)
            if process.is_alive():
                process.kill()


class ProcessGroups:
    """One group of each size, started when first asked for; a new one after a test that failed in it."""

    def __init__(self) -> None:
        self.held: dict[int, ProcessGroup] = {}

    def __call__(self, size: int) -> ProcessGroup:
        if size not in self.held:
            self.held[size] = ProcessGroup(size)
        return self.held[size]

    def drop(self, size: int) -> None:
        """End the group of this size."""
        if size in self.held:
            self.held.pop(size).close()

    def close(self) -> None:
        """End all groups."""
        for size in list(self.held):
            self.drop(size)
