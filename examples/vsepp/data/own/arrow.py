"""Tables of Apache Arrow: parquet files, and what their columns hold."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from vsepp.data.own.stored import StoredPicture
from vsepp.data.own.tables import Table
from vsepp.errors import InputError
from vsepp.files.inputs import kind_of, reason, require_file


def needed(module: str, purpose: str) -> Any:
    """A module that only these inputs need."""
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        package = module.partition(".")[0]
        raise ModuleNotFoundError(
            f"{purpose} needs {package}: pip install -e '.[vsepp]' in the checkout"
        ) from error


def read_parquet(path: Path, split: str = "") -> Table:
    """A parquet file, or the train, dev or test part of one data set."""
    parquet = needed("pyarrow.parquet", f"{path}, a parquet file,")
    require_file(path, "table", "name a .csv, .jsonl or .parquet file")
    try:
        content = parquet.ParquetFile(path, memory_map=True).read()
    # What arrow's parsers meet in broken bytes: ArrowInvalid, OSError, MemoryError and others.
    except Exception as error:
        raise InputError(
            f"{path} cannot be read as parquet ({reason(error)}): it is {kind_of(path)}; copy it "
            "again, or write it again"
        ) from error
    return arrow_table(content, str(path), path.parent, split)


def arrow_table(content: Any, where: str, folder: Path, split: str) -> Table:
    """The columns of an arrow table."""
    names = tuple(content.column_names)
    if len(set(names)) < len(names):
        raise InputError(f"{where} names two columns alike: {', '.join(names)}")

    def column(name: str) -> Sequence[Any]:
        return values(content.column(name), f"{where}, column {name}")

    return Table(where, names, column, lambda row: f"{where}, row {row}", folder, split)


def values(column: Any, where: str) -> Sequence[Any]:
    """Texts, numbers and lists of texts as Python's; rows of numbers as an array; pictures as
    what they are decoded from.
    """
    arrow = needed("pyarrow", where)
    kind = column.type.storage_type if hasattr(column.type, "storage_type") else column.type
    if arrow.types.is_struct(kind) and {one.name for one in kind} >= {"bytes", "path"}:
        return [StoredPicture(where, row, column, "bytes") for row in range(len(column))]
    if arrow.types.is_binary(kind) or arrow.types.is_large_binary(kind):
        return [StoredPicture(where, row, column) for row in range(len(column))]
    lists = (arrow.types.is_list, arrow.types.is_large_list, arrow.types.is_fixed_size_list)
    listed = any(one(kind) for one in lists)
    if listed and not is_text(arrow, kind.value_type):
        return rows_of_numbers(column, where)
    if listed or is_text(arrow, kind) or arrow.types.is_integer(kind):
        found: list[Any] = column.to_pylist()
        return found
    raise InputError(f"{where} holds {kind}: expected texts, whole numbers, or lists of either")


def is_text(arrow: Any, kind: Any) -> bool:
    """Whether a type is that of texts."""
    return bool(arrow.types.is_string(kind) or arrow.types.is_large_string(kind))


def rows_of_numbers(column: Any, where: str) -> np.ndarray:
    """A column of lists of numbers, all of one length, as ``rows x width`` float32."""
    compute, types = needed("pyarrow.compute", where), needed("pyarrow", where).types
    lengths = compute.unique(compute.list_value_length(column)).to_pylist()
    numbers = compute.list_flatten(column)
    plain = types.is_floating(numbers.type) or types.is_integer(numbers.type)
    if not plain or len(lengths) != 1 or lengths == [None] or lengths == [0] or numbers.null_count:
        seen = ", ".join(str(one) for one in lengths[:3])
        raise InputError(
            f"{where} holds lists of {numbers.type} of length {seen}, {numbers.null_count} of them "
            "without a value: expected features, as many numbers in every row"
        )
    return numbers.to_numpy().astype(np.float32).reshape(len(column), lengths[0])
