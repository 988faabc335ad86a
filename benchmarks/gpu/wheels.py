"""Other libraries from wheels at hand, without an installer: unpacked, and found by the workers."""

from __future__ import annotations

import tempfile
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def unpacked(folder: Path) -> Iterator[Path]:
    """What the folder's wheels hold, in a folder that is removed afterwards.

    Raises:
        FileNotFoundError: the folder has no wheel.
    """
    found = sorted(folder.glob("*.whl"))
    if not found:
        raise FileNotFoundError(f"{folder} holds no wheel")
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as place:
        for wheel in found:
            with zipfile.ZipFile(wheel) as archive:
                archive.extractall(place)
        yield Path(place)
