"""Runs tests by their ids as they come through a pipe, and sends their reports back: ``serve.py DESCRIPTOR``."""

from __future__ import annotations

import sys
from multiprocessing.connection import Connection
from typing import Any

import pytest


class Server:
    """In place of pytest's own collection and loop."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self.known: dict[str, dict[str, pytest.Item]] = {}
        self.found: list[pytest.TestReport] = []

    @pytest.hookimpl(tryfirst=True)
    def pytest_collection(self, session: pytest.Session) -> bool:
        """Nothing yet: files are collected when the first of their tests is asked for."""
        return True

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        """One test after another, until the pipe is closed."""
        while True:
            try:
                file, test = self.connection.recv()
            except EOFError:
                return True
            self.connection.send(self.reports(session, file, test))

    def reports(self, session: pytest.Session, file: str, test: str) -> list[dict[str, Any]]:
        """Set-up, call and tear-down of a test."""
        if file not in self.known:
            items = session.perform_collect([file])
            self.known[file] = {item.nodeid: item for item in items}
        item, self.found = self.known[file][test], []
        item.ihook.pytest_runtest_protocol(item=item, nextitem=None)
        to_data = session.config.hook.pytest_report_to_serializable
        return [to_data(config=session.config, report=report) for report in self.found]

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Keep the report of a phase."""
        self.found.append(report)


if __name__ == "__main__":
    options = ["-q", "-p", "no:cacheprovider", "--full"]
    sys.exit(pytest.main(options, [Server(Connection(int(sys.argv[1])))]))
