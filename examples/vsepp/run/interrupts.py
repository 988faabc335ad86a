"""Ctrl-C and SIGTERM while training: noted at once, heard between two steps."""

from __future__ import annotations

import signal
import threading
import time
from types import FrameType, TracebackType
from typing import Any

from vsepp.run.progress import Progress

NAMES = {signal.SIGINT: "Ctrl-C", signal.SIGTERM: "SIGTERM"}
SIGNALS = (signal.SIGINT, signal.SIGTERM)
AGAIN = 1.0
"""A second Ctrl-C after so many seconds stops at once; torchrun repeats the first one sooner."""


class Stopped(Exception):
    """Training was stopped by a signal, with a checkpoint. ``status`` is the exit status."""

    def __init__(self, name: str, number: int, progress: Progress) -> None:
        where = (
            f"in epoch {progress.epoch + 1}" if progress.done else f"after epoch {progress.epoch}"
        )
        super().__init__(
            f"[{name}] stopped by {NAMES[signal.Signals(number)]} {where}, at step {progress.step}: a "
            "checkpoint is written, and the same command with --resume goes on from there"
        )
        self.status = 128 + number


class Interrupts:
    """Catches the two signals inside a ``with`` block (in the main thread; elsewhere it does
    nothing). ``asked`` is the signal that came here, ``agreed`` the one that all processes stop
    for.
    """

    def __init__(self) -> None:
        self.asked, self.agreed, self.since = 0, 0, 0.0
        self.before: dict[int, Any] = {}

    def __enter__(self) -> Interrupts:
        if threading.current_thread() is threading.main_thread():
            self.before = {number: signal.signal(number, self.note) for number in SIGNALS}
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None
    ) -> None:
        for number, handler in self.before.items():
            signal.signal(number, handler)

    def note(self, number: int, frame: FrameType | None) -> None:
        """Remember the first signal. A person who presses Ctrl-C again does not want to wait."""
        if self.asked == 0:
            self.asked, self.since = number, time.monotonic()
        elif number == signal.SIGINT and time.monotonic() - self.since > AGAIN:
            raise KeyboardInterrupt

    def counts(self) -> list[int]:
        """Which signal came here, as counts that can be added up over processes."""
        return [int(self.asked == number) for number in SIGNALS]

    def agree(self, counts: list[int]) -> None:
        """Take in the counts of all processes."""
        came = [number for number, count in zip(SIGNALS, counts, strict=True) if count]
        self.agreed = came[0] if came else 0
