"""The ``--full`` option: also run the tests marked ``full``. Which warnings are errors."""

from __future__ import annotations

import gc
import os
import signal
from collections.abc import Generator

import pytest
from warning_filters import filters_of_pytest, filters_of_python


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--full", action="store_true", help="also run the full product of the matrix")


def pytest_configure(config: pytest.Config) -> None:
    for line in filters_of_pytest():
        config.addinivalue_line("filterwarnings", line)
    os.environ["PYTHONWARNINGS"] = filters_of_python()
    if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
        # a shell has what it starts in the background ignore Ctrl-C, which tests of it inherit
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """Tens of thousands of tests, and what they import, stay: no collection of garbage looks at them again."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.enable()
        gc.freeze()


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if config.getoption("--full"):
        return
    skip = pytest.mark.skip(reason="the full product takes long: pytest --full (make test-all)")
    for item in items:
        if "full" in item.keywords:
            item.add_marker(skip)
