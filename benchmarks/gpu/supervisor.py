"""Run jobs in processes that may die or hang, within a time budget, and hand on every row as it comes."""

from __future__ import annotations

import json
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

from benchmarks.gpu.place import Place
from benchmarks.gpu.process import Late, Worker

Row = dict[str, Any]
STARTUP_SECONDS = 90.0
CUT_OFF = "no time left: stopped in the middle"


@dataclass(frozen=True)
class Budget:
    """Seconds that a run may take, from its creation on."""

    seconds: float
    started: float = field(default_factory=time.monotonic)

    @property
    def left(self) -> float:
        """Seconds left, never below 0."""
        return max(0.0, self.started + self.seconds - time.monotonic())


@dataclass
class Progress:
    """What has been heard of a worker.

    Attributes:
        begun: the job that it is at.
        ended: those that it has finished.
        stopped: whether it was stopped.
    """

    budget: Budget
    begun: str | None = None
    ended: list[str] = field(default_factory=list)
    stopped: bool = False
    deadline: float = 0.0

    def within(self, seconds: float) -> None:
        """The next word must come by then."""
        self.deadline = time.monotonic() + min(seconds, self.budget.left)


@dataclass
class Supervisor:
    """Starts workers, reads their rows, stops those that hang, and starts others for what they left.

    Args:
        place: where the workers compute.
        take: called with every row; from several threads, one at a time.
        environment: of the workers, in addition to this process's own.
    """

    place: Place
    take: Callable[[Row], None]
    environment: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.lock = threading.Lock()
        self.workers: set[Worker] = set()
        self.idle: list[Worker] = []
        self.closed = False

    def run(self, names: Sequence[str], workers: int, budget: Budget) -> None:
        """All jobs, divided among so many processes; what there was no time for becomes a row too."""
        shares = [list(names[i::workers]) for i in range(min(workers, len(names)))]
        with ThreadPoolExecutor(max(1, len(shares))) as pool:
            list(pool.map(lambda share: self.share(share, budget), shares))

    def share(self, left: list[str], budget: Budget) -> None:
        """The jobs of one worker after another, until they are done or time is up."""
        while left and budget.left > 0 and not self.closed:
            worker = self.start(left)
            self.workers.add(worker)
            progress = self.follow(worker, budget)
            self.workers.discard(worker)
            for name in progress.ended:
                left.remove(name)
            late = progress.stopped and budget.left == 0
            if progress.begun is not None:  # it died, or was stopped, in the middle
                left.remove(progress.begun)
                what = {"not_run": CUT_OFF} if late else {"error": cause(worker, progress)}
                self.hand(progress.begun, **what)
            elif not progress.ended and left and not late:
                said = cause(worker, progress)
                self.hand(left.pop(0), error=f"no worker started: {said}")
        for name in left:
            self.hand(name, not_run="no time left")

    def start(self, names: list[str]) -> Worker:
        """A worker with its jobs, one that is waiting already if there is one."""
        with self.lock:
            worker = self.idle.pop() if self.idle else None
        worker = worker or self.fresh()
        worker.give(names)
        return worker

    def warm(self, count: int) -> None:
        """Start so many that import what they need while others work, and wait for their jobs."""
        while len(self.idle) < count and not self.closed:
            self.idle.append(self.fresh())

    def fresh(self) -> Worker:
        """A worker without jobs."""
        words = [sys.executable, "-m", "benchmarks.gpu.worker", "--device", self.place.device]
        words += ["--backend", self.place.backend] + ["--small"] * self.place.small
        return Worker(words, self.environment)

    def follow(self, worker: Worker, budget: Budget) -> Progress:
        """Read a worker's lines to their end, or stop it where they do not come in time."""
        progress = Progress(budget)
        progress.within(STARTUP_SECONDS)
        try:
            while (text := worker.line(progress.deadline - time.monotonic())) is not None:
                self.hear(text, progress)
        except Late:
            progress.stopped = True
            worker.end()
            for text in worker.rest():
                self.hear(text, progress)
        return progress

    def hear(self, text: str, progress: Progress) -> None:
        """One line; what is none of ours is a library's, or was cut by a death."""
        try:
            line = json.loads(text) if text.startswith("{") and text.endswith("\n") else {}
        except json.JSONDecodeError:
            return
        if "row" in line:
            self.hand_row(line["row"])
        elif "begin" in line:
            progress.begun = line["begin"]
            progress.within(line["seconds"])
        elif "end" in line:
            progress.ended.append(line["end"])
            self.hand(line["end"], took=line["took"])
            progress.begun = None
            progress.within(STARTUP_SECONDS)

    def close(self) -> None:
        """End every worker, and start no other."""
        self.closed = True
        for worker in [*self.workers, *self.idle]:
            worker.end()

    def hand(self, name: str, **what: object) -> None:
        """A row of the supervisor's own."""
        self.hand_row({"job": name, "stage": name.split(":", 1)[0], **what})

    def hand_row(self, row: Row) -> None:
        """One at a time."""
        with self.lock:
            self.take(row)


def cause(worker: Worker, progress: Progress) -> str:
    """Why a worker is gone."""
    if progress.stopped:
        return "stopped: it took too long"
    said = " | ".join(worker.errors)
    return f"worker ended with status {worker.process.returncode}: {said}"[:900]
