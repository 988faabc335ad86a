"""The errors of a user's files and options: the command line prints one as a line, exit status 2."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

REFUSALS = (ValueError, OSError, ModuleNotFoundError)


class InputError(ValueError):
    """A file or an option that cannot be used.

    The message is one line: which file or option, what was expected, what came, and what to do.
    """

    def __init__(self, message: str) -> None:
        super().__init__(one_line(message))


class MissingInputError(FileNotFoundError, InputError):
    """A file or a folder that is not there."""

    def __init__(self, message: str) -> None:
        super().__init__(one_line(message))


def one_line(message: str) -> str:
    """The message without line breaks: file names and other libraries' messages may hold some."""
    return " ".join(line.strip() for line in str(message).splitlines() if line.strip())


@contextmanager
def refusals_told() -> Iterator[None]:
    """A refusal is one line on stderr, and exit status 2; with VSEPP_TRACEBACK=1 it is raised as it is."""
    try:
        yield
    except REFUSALS as error:
        if os.environ.get("VSEPP_TRACEBACK"):
            raise
        print(f"error: {error}", file=sys.stderr)
        print("(VSEPP_TRACEBACK=1 shows where this arose)", file=sys.stderr)
        raise SystemExit(2) from error
