"""The folder of a run: what it was started with, and a file for each finished block of queries."""

from __future__ import annotations

import io
import json
import zlib
from pathlib import Path
from typing import IO, Any

import numpy as np

from hardneg.mining.differences import differences
from hardneg.writing import UNFINISHED, write_bytes

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

__all__ = ["RunFolder"]

MANIFEST = "manifest.json"


class RunFolder:
    """Finished blocks of queries, by number.

    A block's file carries the checksum of its content in its name, so a damaged one is told from a whole one.

    Attributes:
        path: the folder.
        manifest: what the run was started with.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self.manifest: dict[str, Any] = {}
        self.lock: IO[str] | None = None

    def hold(self) -> None:
        """Make the folder, for this process alone until it ends or ``release`` is called.

        Raises:
            ValueError: where another process mines in it.
        """
        self.path.mkdir(parents=True, exist_ok=True)
        if fcntl is None:
            return
        self.lock = (self.path / "lock").open("w")
        try:
            fcntl.flock(self.lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            self.release()
            raise ValueError(
                f"another process mines in {self.path}: choose another folder"
            ) from error

    def release(self) -> None:
        """Let others have the folder."""
        if self.lock is not None:
            self.lock.close()
            self.lock = None

    def open(self) -> dict[str, Any]:
        """The manifest that is there.

        Raises:
            ValueError: where there is none.
        """
        try:
            self.manifest = json.loads((self.path / MANIFEST).read_text(encoding="utf-8"))
        except FileNotFoundError as error:
            raise ValueError(f"{self.path} holds no mining run: there is no {MANIFEST}") from error
        return self.manifest

    def copy_of(self, name: str) -> Path:
        """Where rows are copied that cannot be read a slice at a time."""
        return self.path / f"{name}.rows"

    def remove_copies(self) -> None:
        """Remove the copies of a finished run."""
        for copy in self.path.glob("*.rows"):
            copy.unlink(missing_ok=True)

    def start(self, manifest: dict[str, Any]) -> dict[str, Any]:
        """Write the manifest, or go on with the run that is there, if it was started with the same.

        Raises:
            ValueError: naming what differs.
        """
        for left in self.path.glob(f".*{UNFINISHED}"):
            left.unlink(missing_ok=True)
        if not (self.path / MANIFEST).exists():
            text = json.dumps(manifest, indent=1, sort_keys=True)
            write_bytes(self.path / MANIFEST, text.encode())
        found = self.open()
        differ = differences(found, json.loads(json.dumps(manifest)))
        if differ:
            raise ValueError(
                f"{self.path} holds a run that was started with {'; with '.join(differ)}: pass the same again, "
                "choose another folder, or remove this one"
            )
        return found

    def block(self, number: int) -> dict[str, np.ndarray] | None:
        """A finished block; None where there is none or it is damaged, which is removed."""
        for path in sorted(self.path.glob(f"{number:08d}.*.npz")):
            content = path.read_bytes()
            if path.suffixes[0] == f".{zlib.crc32(content):08x}":
                with np.load(io.BytesIO(content), allow_pickle=False) as arrays:
                    return dict(arrays)
            path.unlink()
        return None

    def has(self, number: int) -> bool:
        """Whether a block's file is there."""
        return any(self.path.glob(f"{number:08d}.*.npz"))

    def write(self, number: int, arrays: dict[str, np.ndarray]) -> None:
        """Finish a block."""
        buffer = io.BytesIO()
        np.savez(buffer, **arrays)  # type: ignore[arg-type]
        content = buffer.getvalue()
        write_bytes(self.path / f"{number:08d}.{zlib.crc32(content):08x}.npz", content)
