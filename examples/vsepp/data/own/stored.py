"""Pictures whose bytes stand in a table."""

from __future__ import annotations

import io
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Any


@dataclass(frozen=True, order=True)
class StoredPicture:
    """A picture in a row of a column; it can be opened as a path can. The bytes are read when they
    are needed, from a file that is mapped into memory.
    """

    where: str
    row: int
    column: Any = field(compare=False, repr=False)
    part: str = field(default="", compare=False)
    """The part of the row that is the picture, where a row has parts."""

    def __str__(self) -> str:
        return f"{self.where}, row {self.row}"

    @property
    def name(self) -> str:
        """A name as files have one."""
        return PurePosixPath(f"{self.row}").name

    def read_bytes(self) -> bytes:
        """The file that the picture was; empty where there is none."""
        value = self.column[self.row].as_py()
        if self.part and value is not None:
            value = value[self.part]
        return value or b""

    def open(self, mode: str = "rb") -> io.BytesIO:
        """The bytes as a file that is open for reading."""
        assert mode == "rb"
        return io.BytesIO(self.read_bytes())

    def is_file(self) -> bool:
        """Whether the table holds the bytes, and not only the name of a file elsewhere."""
        return bool(self.read_bytes())
