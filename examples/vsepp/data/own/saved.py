"""Folders that the ``datasets`` library saved (``save_to_disk``), read by pyarrow alone.

A folder holds the rows as Arrow streams, ``state.json`` names these in their order, and of several splits
``dataset_dict.json`` names the folders.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from vsepp.data.own.arrow import arrow_table, needed
from vsepp.data.own.tables import Table
from vsepp.data.picture_folder import leads_out
from vsepp.errors import InputError
from vsepp.files.inputs import kind_of, reason, require_file
from vsepp.files.json_files import field, of_kind, read_json

OF_SPLITS, OF_ONE = "dataset_dict.json", "state.json"
AGAIN = "save the data set again with save_to_disk"


def is_saved(folder: Path) -> bool:
    """Whether ``save_to_disk`` wrote the folder."""
    return any((folder / name).is_file() for name in (OF_SPLITS, OF_ONE))


def read_saved(folder: Path) -> list[Table]:
    """The tables of a folder, a table for each split; no code is run."""
    path, splits = folder / OF_SPLITS, [""]
    if path.is_file():
        splits = names_in(
            field(read_json(path, "list of splits", AGAIN), "splits", list, f"{path}"), path
        )
    tables = {split: rows_of(folder / split) for split in splits}
    return [
        arrow_table(table, f"{folder / split}", folder, split)
        for split, table in tables.items()
        if table.num_rows
    ]


def rows_of(folder: Path) -> Any:
    """The rows of one split, of all its files."""
    path = folder / OF_ONE
    state = read_json(path, "state of a data set", AGAIN)
    if isinstance(state, dict) and state.get("_indices_data_files"):
        raise InputError(f"{path} lists rows of an older layout: {AGAIN}")
    listed = field(state, "_data_files", list, f"{path}")
    names = names_in([field(one, "filename", str, f"{path}") for one in listed], path)
    if not names:
        raise InputError(f"{path} names no files: {AGAIN}")
    arrow = needed("pyarrow", f"{folder}, a folder that datasets saved,")
    tables = [read_stream(folder / name) for name in names]
    try:
        return arrow.concat_tables(tables)
    except arrow.ArrowInvalid as error:
        raise InputError(
            f"{folder}: its files have other columns ({reason(error)}): {AGAIN}"
        ) from error


def names_in(names: list[Any], path: Path) -> list[str]:
    """Names of files or folders beside a file, each once and none that leads elsewhere."""
    for name in names:
        of_kind(name, str, f"{path}: a name")
        if not name or leads_out(name) or Path(name).name != name:
            raise InputError(f"{path}: {name!r:.60} is no name in this folder; it is not read")
    if len(set(names)) < len(names):
        raise InputError(f"{path} names something twice: {AGAIN}")
    return names


def read_stream(path: Path) -> Any:
    """The rows of an Arrow stream, every offset in them checked: the file may be a stranger's."""
    ipc = needed("pyarrow.ipc", f"{path}, an Arrow file,")
    require_file(path, "table", AGAIN)
    try:
        with needed("pyarrow", f"{path}").memory_map(str(path)) as stream:
            found = ipc.open_stream(stream).read_all()
        found.validate(full=True)
    # What arrow's parsers meet in broken bytes: ArrowInvalid, OSError, MemoryError and others.
    except Exception as error:
        raise InputError(
            f"{path} cannot be read as an Arrow stream ({reason(error)}): it is {kind_of(path)}; {AGAIN}"
        ) from error
    return found
