"""Writing files so that a reader sees the old content or the new, never half of it."""

from __future__ import annotations

import errno
import json
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from vsepp.errors import InputError

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def write_file(path: Path, write: Callable[[Path], None]) -> None:
    """Let ``write`` fill a temporary file beside ``path``, put it on disk, then give it its
    name. Its mode is what the umask leaves: safetensors makes files that their owner alone reads.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f".{path.name}.{os.getpid()}.unfinished")
    try:
        with full_disk_told(path, "what was there before is unharmed"):
            unfinished.touch()
            mode = unfinished.stat().st_mode
            write(unfinished)
            unfinished.chmod(mode)
            to_disk(unfinished)
            os.replace(unfinished, path)
    finally:
        unfinished.unlink(missing_ok=True)
    to_disk(path.parent)


def write_text(path: Path, text: str) -> None:
    """Write UTF-8 text, complete or not at all."""
    write_bytes(path, text.encode("utf-8"))


def write_bytes(path: Path, content: bytes | memoryview) -> None:
    """Write bytes, complete or not at all."""

    def write(unfinished: Path) -> None:
        unfinished.write_bytes(content)

    write_file(path, write)


@contextmanager
def whole_folder(path: Path) -> Iterator[Path]:
    """A folder to fill, which gets its name when it is whole."""
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f".{path.name}.{os.getpid()}.unfinished")
    unfinished.mkdir()
    try:
        with full_disk_told(path, "nothing is there"):
            yield unfinished
            for one in unfinished.iterdir():
                to_disk(one)
            os.replace(unfinished, path)
        to_disk(path.parent)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)


def require_writable(path: Path) -> None:
    """Refuse a file that could not be written, before hours of work whose result it should hold."""
    if path.is_dir():
        raise InputError(f"{path} is a folder: name a file to write")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(
            f"{path} cannot be written, because its folder cannot be made ({error.strerror}): "
            "choose another place"
        ) from error
    if not os.access(path.parent, os.W_OK):
        raise InputError(f"{path} cannot be written: check the permissions of its folder")


@contextmanager
def full_disk_told(path: Path, comfort: str) -> Iterator[None]:
    """Turn the error of a full disk, a quota or a size limit into a line that says what to do."""
    try:
        yield
    except OSError as error:
        if error.errno not in FULL:
            raise
        raise OSError(
            f"no space left while writing {path} ({error.strerror}): {comfort}; "
            "free some space, then go on with --resume"
        ) from error


def to_disk(path: Path) -> None:
    """Wait until a file's content, or a folder's list of names, has reached the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def remove_folder(folder: Path) -> None:
    """Remove a folder in one step for every reader: it loses its name before its content."""
    doomed = folder.with_name(f".{folder.name.lstrip('.')}.removed.unfinished")
    shutil.rmtree(doomed, ignore_errors=True)
    os.replace(folder, doomed)
    shutil.rmtree(doomed)


def read_json(path: Path) -> dict[str, Any]:
    """A JSON file that holds an object; every fault names the file."""
    try:
        content = json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path} is no JSON ({error}): it is damaged or incomplete") from error
    if not isinstance(content, dict):
        raise ValueError(f"{path} holds a {type(content).__name__}: expected an object")
    return content
