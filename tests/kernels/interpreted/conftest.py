"""Runs each test of this folder in a process where Triton interprets its kernels, and reports it as its own.

Triton decides when a kernel is decorated whether it is interpreted, so a process does one or the other. The tests are
collected here and run by one child (``serve.py``), which lives as long as this process: imports are paid once.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from multiprocessing.connection import Connection, Pipe
from pathlib import Path
from typing import Any

import pytest

HERE = Path(__file__).parent
INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"
if INTERPRETED:
    from interpreter_costs import save_costs

    save_costs()
SECONDS = 900
"""After how long a test counts as hung."""
LOSSES = 3
"""After how many lost children in a row no further one is started."""


class Child:
    """The process that interprets, started by the first test."""

    def __init__(self, config: pytest.Config) -> None:
        self.config = config
        self.process: subprocess.Popen[bytes] | None = None
        self.connection: Connection | None = None
        self.lost = 0

    def start(self) -> Connection:
        """Its end of a pipe."""
        ours, theirs = Pipe()
        # workers of the surrounding run would otherwise be taken for the child's
        environment = {k: v for k, v in os.environ.items() if not k.startswith("PYTEST")}
        environment["TRITON_INTERPRET"] = "1"
        serve = Path(__file__).with_name("serve.py")
        command = [sys.executable, "-P", str(serve), str(theirs.fileno())]
        told = {"env": environment, "cwd": self.config.rootpath, "pass_fds": [theirs.fileno()]}
        self.process = subprocess.Popen(command, stdout=subprocess.DEVNULL, **told)
        theirs.close()
        return ours

    def run(self, item: pytest.Item) -> Iterator[pytest.TestReport]:
        """The reports of a test."""
        if self.lost >= LOSSES:
            yield failed(item, "the process that interprets the kernels cannot be kept")
            return
        self.connection = self.connection or self.start()
        try:
            self.connection.send((str(item.path), item.nodeid))
            if not self.connection.poll(SECONDS):
                raise TimeoutError(f"no answer for {SECONDS} seconds")
            found = self.connection.recv()
        except (EOFError, OSError) as lost:
            self.stop()
            self.lost += 1
            yield failed(item, f"the process that interprets the kernels was lost: {lost!r}")
            return
        self.lost = 0
        for data in found:
            hook = self.config.hook
            yield hook.pytest_report_from_serializable(config=self.config, data=data)

    def stop(self) -> None:
        """End it; the next test starts another."""
        if self.connection is not None and self.process is not None:
            self.connection.close()
            self.process.kill()
            self.process.wait()
        self.connection = self.process = None


def failed(item: pytest.Item, reason: str) -> pytest.TestReport:
    """A test that brought no report."""
    return pytest.TestReport(item.nodeid, item.location, {}, "failed", reason, "call")


CHILD = pytest.StashKey[Child]()


def pytest_configure(config: pytest.Config) -> None:
    config.stash[CHILD] = Child(config)


def pytest_unconfigure(config: pytest.Config) -> None:
    config.stash[CHILD].stop()


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_protocol(item: pytest.Item, nextitem: Any) -> bool | None:
    """The child's reports in place of a run here; pytest asks this for tests of other folders too."""
    elsewhere = INTERPRETED or HERE not in item.path.parents
    # the child knows nothing of what this run leaves out
    left_out = "full" in item.keywords and not item.config.getoption("--full")
    if elsewhere or left_out:
        return None
    child = item.config.stash[CHILD]
    item.ihook.pytest_runtest_logstart(nodeid=item.nodeid, location=item.location)
    for report in child.run(item):
        item.ihook.pytest_runtest_logreport(report=report)
    item.ihook.pytest_runtest_logfinish(nodeid=item.nodeid, location=item.location)
    # what was set up for a neighbouring folder's test and kept for this one
    item.session._setupstate.teardown_exact(nextitem)
    return True
