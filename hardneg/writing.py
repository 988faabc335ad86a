"""Writing files so that a reader sees the whole content or none."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path

__all__ = ["write_bytes", "write_file"]

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
UNFINISHED = ".unfinished"


def write_file(path: Path, write: Callable[[Path], None]) -> None:
    """Let ``write`` fill a temporary file beside ``path``, put it on disk, then give it its name.

    Its mode is what the umask leaves, though safetensors, say, makes files that their owner alone reads.

    Raises:
        OSError: where the disk is full, saying that what was there is unharmed.
    """
    unfinished = path.with_name(f".{path.name}.{os.getpid()}{UNFINISHED}")
    try:
        unfinished.touch()
        mode = unfinished.stat().st_mode
        write(unfinished)
        unfinished.chmod(mode)
        to_disk(unfinished)
        os.replace(unfinished, path)
        to_disk(path.parent)
    except OSError as error:
        if error.errno not in FULL:
            raise
        raise OSError(
            error.errno,
            f"no space left while writing {path} ({error.strerror}): what was finished is unharmed; free some "
            "space and start again in the same folder",
        ) from error
    finally:
        unfinished.unlink(missing_ok=True)


def write_bytes(path: Path, content: bytes) -> None:
    """Write bytes, complete or not at all."""

    def write(unfinished: Path) -> None:
        unfinished.write_bytes(content)

    write_file(path, write)


def to_disk(path: Path) -> None:
    """Wait until a file's content, or a folder's list of names, has reached the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
