"""Compiled kernels that travel with the command: a folder of Triton's cache, made on a machine without a GPU.

Triton finds a kernel by a hash of the kernel's source and of all that it calls, the types, constants and divisibility
of its arguments, the options, the target (``cuda:90``), the assembler's version, Triton's own sources and its binary
library. The last is another for each release of Python, so the folder must be made by the release that will take it.
No path is part of the hash, but the lists of files inside the folder hold absolute ones: ``relocated`` renews them.
"""

from __future__ import annotations

import json
import os
import tarfile
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

KEPT = (".cubin", ".json")
"""What a launch needs; the rest (ptx, intermediate code) is nine tenths of the size."""
GROUP = "__grp__"


def stripped(folder: Path) -> None:
    """Drop what a launch does not need."""
    for path in folder.glob("*/*"):
        if path.is_file() and path.suffix not in KEPT:
            path.unlink()


def relocated(folder: Path) -> int:
    """Let the lists of files say where the files are now; returns how many kernels there are."""
    lists = list(folder.glob(f"*/{GROUP}*.json"))
    for path in lists:
        listed = json.loads(path.read_text(encoding="utf-8"))
        names = [name for name in listed["child_paths"] if (path.parent / name).exists()]
        children = {name: str((path.parent / name).resolve()) for name in names}
        path.write_text(json.dumps({**listed, "child_paths": children}), encoding="utf-8")
    return len(lists)


def packed(folder: Path) -> Path:
    """The folder as one compressed file beside it, a tenth of its size."""
    file = folder.with_name(f"{folder.name}.tar.xz")
    with tarfile.open(file, "w:xz") as archive:
        archive.add(folder, arcname=".")
    return file


@contextmanager
def unpacked(path: Path) -> Iterator[Path]:
    """A folder as it is, or what a packed one holds in a folder that is removed afterwards."""
    if path.is_dir():
        relocated(path)
        yield path
        return
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as place:
        with tarfile.open(path, "r:xz") as archive:
            archive.extractall(place, filter="data")
        relocated(Path(place))
        yield Path(place)


def compiled(folder: Path, since: float = 0.0) -> int:
    """How many kernels of a folder have been written since then, in seconds of the epoch."""
    return sum(path.stat().st_mtime >= since for path in folder.glob("*/*.cubin"))


def in_use() -> Path:
    """The folder that Triton takes kernels from, and writes others to."""
    return Path(os.environ.get("TRITON_CACHE_DIR", Path.home() / ".triton" / "cache"))
