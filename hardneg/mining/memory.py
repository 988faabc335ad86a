"""How many rows are held at a time."""

from __future__ import annotations

import re
from typing import Any

from hardneg.mining.rows import Rows

__all__ = ["block_sizes", "bytes_of"]

UNITS = {"": 1, "B": 1, "KIB": 2**10, "MIB": 2**20, "GIB": 2**30, "TIB": 2**40}
UNITS |= {"KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12}
LEAST = 2**10
"""A smaller number without a unit is taken for a slip."""
QUERIES, CORPUS = 4096, 1 << 18
"""The most rows of a block: more save little time."""


def bytes_of(memory: Any) -> int:
    """A number of bytes from ``"2GiB"``, ``"500 MB"`` or a whole number."""
    found = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([A-Za-z]*)\s*", str(memory))
    if isinstance(memory, bool) or found is None or found[2].upper() not in UNITS:
        raise ValueError(
            f"memory is {memory!r}: expected a size such as '2GiB', or a number of bytes"
        )
    size = int(float(found[1]) * UNITS[found[2].upper()])
    if size < 1 or (not found[2] and size < LEAST):
        raise ValueError(f"memory is {memory!r}, so many bytes: write a unit, as in '2GiB'")
    return size


def block_sizes(memory: int, corpus: Rows, places: int) -> tuple[int, int]:
    """Queries and rows of the corpus in a block.

    A row is held as read, in float32 or float64, and normalised, while the next is read; lists are held a few times.
    A quarter is left for the tiles, whose size is fixed.
    """
    row = 4 * corpus.width * max(4, corpus.array.dtype.itemsize)
    queries = memory // 4 // (row + 128 * places)
    rows = memory // 2 // (row + 64)
    return max(1, min(queries, QUERIES)), max(1, min(rows, CORPUS))
