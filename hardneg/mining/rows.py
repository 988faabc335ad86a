"""``Rows``: embeddings in memory or on disk, read a slice at a time."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from hardneg.extras import require
from hardneg.writing import write_file

if TYPE_CHECKING:
    from jaxtyping import Float, Int

__all__ = ["Parquet", "Rows", "copy_rows", "fingerprint", "is_copied", "open_rows"]

READ = 1 << 24
"""How many coordinates are read at a time where all are read once."""


@dataclass(frozen=True)
class Parquet:
    """Embeddings in a column of a parquet file: lists of one length.

    Attributes:
        path: the file.
        column: its name.
    """

    path: str | Path
    column: str = "embedding"

    def blocks(self, argument: str) -> Iterator[np.ndarray]:
        """Its rows, some at a time.

        Raises:
            ValueError: without such a column, or where it holds anything but lists of one length.
        """
        reader = require("pyarrow.parquet", "mining", f"{argument} in a parquet file")
        with reader.ParquetFile(self.path) as file:
            names = file.schema_arrow.names
            if self.column not in names:
                raise ValueError(
                    f"{argument}: {self.path} has no column {self.column!r}: its columns are {', '.join(names)}"
                )
            for batch in file.iter_batches(batch_size=1 << 14, columns=[self.column]):
                yield self.matrix(argument, batch.column(0))

    def matrix(self, argument: str, column: Any) -> np.ndarray:
        """A chunk of the column."""
        where = f"{argument}: column {self.column!r} of {self.path}"
        if column.null_count or not hasattr(column, "flatten"):
            raise ValueError(
                f"{where} is {column.type} with {column.null_count} nulls: expected lists"
            )
        values = column.flatten()
        kind = str(values.type)
        if kind not in ("halffloat", "float", "double") or values.null_count:
            raise ValueError(
                f"{where} holds {kind} with {values.null_count} nulls: expected numbers"
            )
        lengths = (
            set(column.value_lengths().to_pylist()) if hasattr(column, "value_lengths") else set()
        )
        width = len(values) // max(1, len(column))
        if not lengths <= {width}:
            raise ValueError(
                f"{where} holds lists of {sorted(lengths)} numbers: expected one length"
            )
        found: np.ndarray = values.to_numpy(zero_copy_only=False).reshape(len(column), width)
        return found


class Rows:
    """n x d embeddings, of which slices are read.

    Attributes:
        array: in memory, or mapped.
        file: path and offset of a mapped array, by which another process opens it.
    """

    def __init__(self, array: np.ndarray, file: tuple[str, int] | None = None) -> None:
        self.array, self.file = array, file

    def __len__(self) -> int:
        return len(self.array)

    @property
    def width(self) -> int:
        """Coordinates of an embedding."""
        return int(self.array.shape[1])

    def __reduce__(self) -> Any:
        if self.file is None:
            return Rows, (self.array,)
        return mapped, (*self.file, self.array.dtype.str, self.array.shape)

    def read(self, rows: slice, device: torch.device | str = "cpu") -> Float[Tensor, "r d"]:
        """Consecutive rows, copied, in float32 or float64."""
        return as_floats(self.array[rows]).to(device)

    def take(
        self, index: Int[Tensor, "t"], device: torch.device | str = "cpu"
    ) -> Float[Tensor, "t d"]:
        """Listed rows, copied; they are read in rising order."""
        unique, back = np.unique(index.cpu().numpy(), return_inverse=True)
        return as_floats(self.array[unique])[torch.from_numpy(back.reshape(-1))].to(device)


def as_floats(array: np.ndarray) -> Float[Tensor, "r d"]:
    """A copy in float64 or float32."""
    dtype = np.float64 if array.dtype == np.float64 else np.float32
    return torch.from_numpy(np.array(array, dtype=dtype, order="C"))


def mapped(path: str, offset: int, dtype: str, shape: tuple[int, int]) -> Rows:
    """Rows in a file, from a byte on."""
    if shape[0] * shape[1] == 0:
        return Rows(np.empty(shape, dtype))
    array = np.memmap(path, np.dtype(dtype), "r", offset, shape)
    return Rows(array, (path, offset))


def open_rows(argument: str, source: Any) -> Rows:
    """Embeddings of a tensor, an array or a ``.npy`` file, of which none is read.

    Raises:
        TypeError, ValueError: for anything else, or another shape or type.
    """
    if isinstance(source, Tensor):
        source = source.detach().cpu()
        source = (source.float() if source.dtype == torch.bfloat16 else source).numpy()
    if isinstance(source, str | Path):
        source = np.load(source, mmap_mode="r", allow_pickle=False)
    if not isinstance(source, np.ndarray):
        raise TypeError(
            f"{argument} is a {type(source).__name__}: expected a tensor, an array, a path to .npy or .parquet, "
            "Parquet(path, column), or an iterator of blocks"
        )
    check_matrix(argument, source)
    if type(source) is np.memmap and source.filename and type(source.base) is not np.memmap:
        return mapped(str(source.filename), source.offset, source.dtype.str, source.shape)
    return Rows(source)


def check_matrix(argument: str, array: np.ndarray) -> None:
    """A matrix of floats with rows and columns."""
    if array.ndim != 2 or array.dtype not in (np.float16, np.float32, np.float64):
        raise ValueError(
            f"{argument} has shape {array.shape} and type {array.dtype}: expected (rows, width) of floats"
        )
    if 0 in array.shape:
        raise ValueError(f"{argument} is empty, shape {array.shape}")


def is_copied(source: Any) -> bool:
    """Whether rows are copied to a file first: those of a parquet file and of an iterator."""
    if isinstance(source, str | Path):
        return Path(source).suffix in (".parquet", ".pq")
    return isinstance(source, Parquet) or (
        isinstance(source, Iterable) and not isinstance(source, Tensor | np.ndarray)
    )


def copy_rows(argument: str, source: Any, path: Path) -> Rows:
    """Rows of a parquet file or an iterator of blocks, copied to a file."""
    if isinstance(source, str | Path):
        source = Parquet(source)
    blocks = source.blocks(argument) if isinstance(source, Parquet) else source
    layout: list[tuple[str, int]] = []
    count = 0

    def write(unfinished: Path) -> None:
        nonlocal count
        with unfinished.open("wb") as file:
            for block in blocks:
                rows = open_rows(f"a block of {argument}", block).array
                layout.append((rows.dtype.str, rows.shape[1]))
                if layout[-1] != layout[0]:
                    raise ValueError(
                        f"{argument}: blocks of type and width {layout[0]}, then of {layout[-1]}: expected one"
                    )
                file.write(np.ascontiguousarray(rows).data)
                count += len(rows)

    write_file(path, write)
    if not layout:
        raise ValueError(f"{argument} has no rows")
    return mapped(str(path), 0, layout[0][0], (count, layout[0][1]))


def fingerprint(argument: str, rows: Rows) -> str:
    """A hash of all numbers, which are checked on the way.

    Raises:
        ValueError: for NaN or infinity, naming the row.
    """
    digest = hashlib.blake2b(f"{rows.array.dtype.str} {rows.array.shape}".encode(), digest_size=16)
    step = max(1, READ // rows.width)
    for start in range(0, len(rows), step):
        block = np.ascontiguousarray(rows.array[start : start + step])
        if not (np.isfinite(block.min()) and np.isfinite(block.max())):
            row = start + int(np.argmin(np.isfinite(block).all(axis=1)))
            raise ValueError(
                f"{argument}: row {row} holds NaN or infinity: leave it out or compute it again"
            )
        digest.update(block.data)
    return digest.hexdigest()
