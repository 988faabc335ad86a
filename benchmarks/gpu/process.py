"""A worker alone in its process group: what it started ends with it, and nothing waits for it without a limit."""

from __future__ import annotations

import contextlib
import os
import queue
import signal
import subprocess
import threading
import time
from collections import deque
from collections.abc import Mapping, Sequence

LAST_ERRORS = 8
DRAIN_SECONDS = 2.0
"""For what a pipe still holds after the worker's death; a process in a session of its own may keep it open."""


class Late(Exception):
    """Nothing came in time."""


class Worker:
    """A process whose lines can be awaited.

    Args:
        words: the command.
        environment: in addition to this process's own.
    """

    def __init__(self, words: Sequence[str], environment: Mapping[str, str]) -> None:
        pipe = subprocess.PIPE
        told = {"stdin": pipe, "stdout": pipe, "stderr": pipe, "text": True}
        about = {"start_new_session": True, "env": {**os.environ, **environment}}
        self.process = subprocess.Popen(words, **told, **about)
        self.lines: queue.Queue[str | None] = queue.Queue()
        self.errors: deque[str] = deque(maxlen=LAST_ERRORS)
        self.readers = [self.thread(self.read_lines), self.thread(self.read_errors)]
        self.thread(self.reap)

    def give(self, names: Sequence[str]) -> None:
        """Its jobs on standard input, one a line."""
        with contextlib.suppress(BrokenPipeError), self.process.stdin as told:
            told.write("".join(f"{name}\n" for name in names))

    def thread(self, work: object) -> threading.Thread:
        """Started, and no hindrance to the end of this process."""
        made = threading.Thread(target=work, daemon=True)
        made.start()
        return made

    def read_lines(self) -> None:
        """Pass on what it prints."""
        with self.process.stdout as said:
            for text in said:
                self.lines.put(text)

    def read_errors(self) -> None:
        """Keep the end of what it says on standard error."""
        with self.process.stderr as said:
            for text in said:
                self.errors.append(text.rstrip())

    def reap(self) -> None:
        """After its death, end its group before its number can belong to another process; then close the lines."""
        os.waitid(os.P_PID, self.process.pid, os.WEXITED | os.WNOWAIT)
        self.end()
        self.process.wait()
        with contextlib.suppress(BrokenPipeError):
            self.process.stdin.close()
        for reader in self.readers:
            reader.join(DRAIN_SECONDS)
        self.lines.put(None)

    def line(self, seconds: float) -> str | None:
        """The next line; None after the last.

        Raises:
            Late: none came in so many seconds.
        """
        try:
            return self.lines.get(timeout=max(0.0, seconds))
        except queue.Empty:
            raise Late from None

    def end(self) -> None:
        """Kill it and all that it has started in its group."""
        if self.process.returncode is None:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self.process.pid, signal.SIGKILL)

    def rest(self, seconds: float = 3 * DRAIN_SECONDS) -> list[str]:
        """The lines up to its end, for so long at most: a process that waits for a device may not even be killable."""
        until, found = time.monotonic() + seconds, []
        with contextlib.suppress(Late):
            while (text := self.line(until - time.monotonic())) is not None:
                found.append(text)
        return found
