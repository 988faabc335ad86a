"""Processes forked from one that has imported what takes long; the first test that wants one starts it."""

from __future__ import annotations

import multiprocessing
import os
from multiprocessing.context import ForkServerContext
from multiprocessing.forkserver import ensure_running, set_forkserver_preload
from pathlib import Path
from unittest import mock

EXAMPLES = Path(__file__).parents[1] / "examples"
LIBRARY = ("pytest", "torch", "torch.distributed", "hardneg.distributed", "hardneg.mining")
TRAINER = ("nltk", "vsepp.train", "vsepp.report.finished", "vsepp.report.page")
"""What it imports; one process serves all tests of a worker."""


def forking() -> ForkServerContext:
    """In place of ``multiprocessing``."""
    set_forkserver_preload([*LIBRARY, *TRAINER])
    # Python 3.11 does not hand sys.path on to that process
    path = [str(EXAMPLES), *filter(None, [os.environ.get("PYTHONPATH")])]
    with mock.patch.dict(os.environ, PYTHONPATH=os.pathsep.join(path)):
        ensure_running()
    return multiprocessing.get_context("forkserver")
