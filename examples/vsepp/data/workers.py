"""The processes that decode images: how many, and what they do with signals."""

from __future__ import annotations

import os
import signal

from accelerate import PartialState

from vsepp.settings import Data

MOST = 16
"""One GPU reads pictures faster than so many cores decode them, but each worker holds batches in memory."""


def decoding_workers(asked: int | None, data: Data, features: bool = False) -> int:
    """What was asked for; else a share of the cores where images are decoded.

    Features and scenes are in memory: a worker would cost more than it saves. On a GPU the cores have
    nothing else to do; on a CPU the training needs most of them.
    """
    if asked is not None:
        return asked
    in_memory = data.layout == "precomp" and data.dataset != "own"
    if in_memory or features or data.dataset == "scenes":
        return 0
    state = PartialState()
    here = int(os.environ.get("LOCAL_WORLD_SIZE", state.num_processes))
    cores = usable_cores() // max(1, here)
    return min(MOST, cores // 4 if state.device.type == "cpu" else max(1, cores - 1))


def usable_cores() -> int:
    """The cores that this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def leave_signals_to_the_trainer(worker: int) -> None:
    """Let a process that decodes images ignore both signals: the trainer, which gets them too, stops
    it after the step under way.
    """
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
