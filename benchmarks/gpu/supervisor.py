"""Run jobs in processes that may die or hang, within a time budget, and hand on every row as it comes."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

from benchmarks.gpu.place import Place

Row = dict[str, Any]
STARTUP_SECONDS = 90.0


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
class Supervisor:
    """Starts workers, reads their rows, stops those that hang, and starts others for what they left.

    Args:
        place: where the workers compute.
        take: called with every row; from several threads, one at a time.
    """

    place: Place
    take: Callable[[Row], None]

    def __post_init__(self) -> None:
        self.lock = threading.Lock()
        self.stopped: set[int] = set()

    def run(self, names: Sequence[str], workers: int, budget: Budget) -> None:
        """All jobs, divided among so many processes; what there was no time for becomes a row too."""
        shares = [list(names[i::workers]) for i in range(min(workers, len(names)))]
        with ThreadPoolExecutor(max(1, len(shares))) as pool:
            list(pool.map(lambda share: self.share(share, budget), shares))

    def share(self, left: list[str], budget: Budget) -> None:
        """The jobs of one worker after another, until they are done or time is up."""
        while left and budget.left > 0:
            with self.start(left) as process:  # which closes its pipes
                begun, ended = self.follow(process, budget)
            for name in ended:
                left.remove(name)
            if begun is not None:  # it died, or was stopped, in the middle
                left.remove(begun)
                self.hand(begun, error=self.cause(process, budget))
            elif not ended and left:
                self.hand(left.pop(0), error=f"no worker started: {self.cause(process, budget)}")
        for name in left:
            self.hand(name, not_run="no time left")

    def start(self, names: list[str]) -> subprocess.Popen[str]:
        """A worker with its jobs."""
        words = [sys.executable, "-m", "benchmarks.gpu.worker", "--device", self.place.device]
        words += ["--backend", self.place.backend] + ["--small"] * self.place.small
        pipe = subprocess.PIPE
        process = subprocess.Popen(words, stdin=pipe, stdout=pipe, stderr=pipe, text=True)
        assert process.stdin is not None
        process.stdin.write("\n".join(names) + "\n")
        process.stdin.close()
        return process

    def follow(
        self, process: subprocess.Popen[str], budget: Budget
    ) -> tuple[str | None, list[str]]:
        """Read a worker's lines to their end: the job it left unfinished, and those that it finished."""
        begun, ended = None, []
        errors = threading.Thread(target=self.keep_errors, args=(process,), daemon=True)
        errors.start()
        watch = self.watched(process, min(STARTUP_SECONDS, budget.left))
        assert process.stdout is not None
        for text in process.stdout:
            if not (text.startswith("{") and text.endswith("\n")):  # a library's, or cut by a death
                continue
            line = json.loads(text)
            if "row" in line:
                self.hand_row(line["row"])
            elif "begin" in line:
                begun = line["begin"]
                watch.cancel()
                watch = self.watched(process, min(line["seconds"], budget.left))
            elif "end" in line:
                ended.append(line["end"])
                begun = None
                watch.cancel()
                watch = self.watched(process, min(STARTUP_SECONDS, budget.left))
        process.wait()
        watch.cancel()
        errors.join(timeout=5)
        return begun, ended

    def watched(self, process: subprocess.Popen[str], seconds: float) -> threading.Timer:
        """Stop this worker, and only it, after so many seconds."""

        def stop() -> None:
            self.stopped.add(process.pid)
            process.kill()

        timer = threading.Timer(seconds, stop)
        timer.daemon = True
        timer.start()
        return timer

    def keep_errors(self, process: subprocess.Popen[str]) -> None:
        """Keep the end of what the worker says on standard error."""
        assert process.stderr is not None
        last: list[str] = []
        for text in process.stderr:
            last = [*last[-7:], text.rstrip()]
        process.last_errors = last  # type: ignore[attr-defined]

    def cause(self, process: subprocess.Popen[str], budget: Budget) -> str:
        """Why a worker is gone."""
        if process.pid in self.stopped:
            return "stopped: no time left" if budget.left == 0 else "stopped: it took too long"
        said = " | ".join(getattr(process, "last_errors", []))
        return f"worker ended with status {process.returncode}: {said}"[:900]

    def hand(self, name: str, **what: str) -> None:
        """A row of the supervisor's own."""
        self.hand_row({"job": name, "stage": name.split(":", 1)[0], **what})

    def hand_row(self, row: Row) -> None:
        """One at a time."""
        with self.lock:
            self.take(row)
