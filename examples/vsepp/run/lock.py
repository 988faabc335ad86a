"""One process at a time in a run's folder. The system holds the lock, so ``kill -9`` frees it."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

WITHOUT_LOCKS = (errno.ENOLCK, errno.ENOTSUP, errno.ENOSYS)
"""What file systems answer that know no locks: there a run goes on without one."""


def lock_file(folder: Path) -> Path:
    """Beside the folder, which may be replaced as a whole."""
    return folder.with_name(f".{folder.name}.lock")


@contextmanager
def run_lock(folder: Path) -> Iterator[None]:
    """Hold a run's folder; if another process does, say which."""
    path = lock_file(folder)
    made = [parent for parent in path.parents if not parent.exists()]
    stream = locked(path, folder)
    # A forked worker inherits the open file, and would hold the lock when this process is killed.
    os.register_at_fork(after_in_child=stream.close)
    try:
        with suppress(OSError):  # a full disk: the lock holds, only the name of its holder lacks
            note_holder(stream)
        yield
    finally:
        path.unlink(missing_ok=True)
        stream.close()
        for parent in made:  # a run that never began leaves no folder
            with suppress(OSError):
                parent.rmdir()


def locked(path: Path, folder: Path) -> BinaryIO:
    """The open lock file, locked; opened anew if its last holder has removed it meanwhile."""
    while True:
        path.parent.mkdir(parents=True, exist_ok=True)
        stream = path.open("a+b")
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            stream.seek(0)
            held = holder(stream.read())
            stream.close()
            raise BlockingIOError(
                f"{folder} is in use by {held}: wait until it ends, stop it, or choose another --out"
            ) from error
        except OSError as error:
            if error.errno not in WITHOUT_LOCKS:
                raise
        with suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(stream.fileno()), path.stat()):
                return stream
        stream.close()


def note_holder(stream: BinaryIO) -> None:
    """Write down who holds the lock."""
    stream.truncate(0)
    since = time.strftime("%Y-%m-%d %H:%M:%S")
    holds = {"process": os.getpid(), "host": socket.gethostname(), "since": since}
    stream.write(json.dumps(holds).encode())
    stream.flush()


def holder(content: bytes) -> str:
    """Who holds the lock, as text."""
    try:
        found = json.loads(content)
        where = f"process {int(found['process'])} on {found['host']!s:.80}"
        return f"{where} since {found['since']!s:.40}"
    except (ValueError, KeyError, TypeError):
        return "another process"
