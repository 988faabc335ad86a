"""The errors of a user's files and options: the command line prints one as a line, exit status 2."""

from __future__ import annotations


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
