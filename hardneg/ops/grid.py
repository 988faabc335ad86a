"""The tiles of the score matrix, in a fixed order, and the buffers that they share."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

__all__ = ["Buffers", "Tile", "chunks", "grid", "long_tile", "summed_tile"]

TILE_ELEMENTS = {"cpu": 1 << 21, "cuda": 1 << 24}
TILE_COLUMNS = {"cpu": 2048, "cuda": 8192}
FEWEST_ROWS, LENGTHS, WHOLE = 64, 16, 64


@dataclass(frozen=True)
class Tile:
    """A block of rows and columns of the score matrix."""

    rows: slice
    columns: slice

    @property
    def shape(self) -> tuple[int, int]:
        """How many rows and columns."""
        return self.rows.stop - self.rows.start, self.columns.stop - self.columns.start


def chunks(total: int, size: int) -> Iterator[slice]:
    """Consecutive slices of at most ``size``."""
    for start in range(0, total, size):
        yield slice(start, min(start + size, total))


def default_tile(n: int, m: int, device: torch.device) -> tuple[int, int]:
    """Rows and columns of a tile: about 8 MB of float32 on a CPU, so that it stays in the cache."""
    kind = "cpu" if device.type == "cpu" else "cuda"
    return tile_of(n, m, TILE_COLUMNS[kind], TILE_ELEMENTS[kind])


def summed_tile(n: int, m: int, device: torch.device) -> tuple[int, int]:
    """The same for sums, which hold several such matrices: half of it on a CPU takes no more time."""
    if device.type != "cpu":
        return default_tile(n, m, device)
    return tile_of(n, m, TILE_COLUMNS["cpu"], TILE_ELEMENTS["cpu"] // 2)


def tile_of(n: int, m: int, columns: int, elements: int) -> tuple[int, int]:
    """Rows of at most so many columns, so many that the tile has at most so many elements."""
    columns = min(m, columns)
    return min(n, max(1, elements // columns)), columns


def long_tile(n: int, m: int, k: int) -> tuple[int, int]:
    """A tile of the same size on a CPU, its rows long for the k best of them; no fewer rows than a product wants.

    Where every 64th or more is taken the rows are whole, since little would be passed over in later tiles.
    """
    elements, shortest = TILE_ELEMENTS["cpu"], TILE_COLUMNS["cpu"]
    wished = m if m <= WHOLE * k else max(shortest, LENGTHS * k)
    columns = min(m, wished, elements // min(n, FEWEST_ROWS))
    return min(n, max(1, elements // columns)), columns


def grid(n: int, m: int, tile: tuple[int, int]) -> Iterator[Tile]:
    """All tiles: rows outermost, both rising, so that the first of equal scores is met first."""
    for rows in chunks(n, tile[0]):
        for columns in chunks(m, tile[1]):
            yield Tile(rows, columns)


class Buffers:
    """Named scratch matrices of tile size, allocated on first use and used again by every tile."""

    def __init__(self, tile: tuple[int, int], dtype: torch.dtype, device: torch.device) -> None:
        self.elements, self.dtype, self.device = tile[0] * tile[1], dtype, device
        self.held: dict[str, Tensor] = {}

    def get(self, name: str, tile: Tile) -> Tensor:
        """The buffer of that name as a contiguous matrix of the tile's shape, contents undefined."""
        if name not in self.held:
            self.held[name] = torch.empty(self.elements, dtype=self.dtype, device=self.device)
        rows, columns = tile.shape
        return self.held[name][: rows * columns].view(rows, columns)
