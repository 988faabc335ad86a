"""Which column of a table is what: named by an option, or by a name that is often used."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from vsepp.data.own.tables import Table
from vsepp.errors import InputError
from vsepp.settings import Data

USUAL = {
    "image": ("image", "file_name", "filename", "image_path", "path"),
    "feature": ("feature", "features", "feature_row"),
    "caption": ("caption", "captions", "text", "sentence", "sentences"),
    "split": ("split",),
}
SPLITS = {
    "train": "train",
    "dev": "dev",
    "val": "dev",
    "valid": "dev",
    "validation": "dev",
    "test": "test",
}


def column_named(table: Table, what: str, data: Data) -> str:
    """The name of the column of images, features, captions or splits; empty if there is none.

    A name that an option gives must be there.
    """
    given: str = getattr(data, f"{what}_column")
    if given and given not in table.names:
        raise InputError(
            f"{table.where} has no column {given!r} (--{what}-column): it has {listed(table)}"
        )
    return given or next((name for name in USUAL[what] if name in table.names), "")


def required_column(table: Table, what: str, data: Data) -> str:
    """The same; an error if there is none."""
    name = column_named(table, what, data)
    if not name:
        raise InputError(
            f"{table.where} has no column of {what}s: it has {listed(table)}; name it by "
            f"--{what}-column, or call it {' or '.join(USUAL[what][:3])}"
        )
    return name


def listed(table: Table) -> str:
    """The columns that there are."""
    return f"the columns {', '.join(map(repr, table.names))}" if table.names else "no columns"


def captions_of(value: Any, place: str) -> list[str]:
    """The captions of a row: a text, or a list of texts."""
    said: Sequence[Any] = value if isinstance(value, list) else [value]
    for one in said:
        if one is not None and not isinstance(one, str):
            raise InputError(f"{place}: the caption is {one!r:.60}: expected a text")
    captions = [" ".join((one or "").split()) for one in said]
    if not captions or not all(captions):
        raise InputError(f"{place}: the caption is empty: write one, or remove the row")
    return captions


def splits_of(table: Table, data: Data, rows: int) -> Sequence[str]:
    """The split of every row, by the column or by the folder; empty where neither says."""
    name = column_named(table, "split", data)
    if not name and not table.split:
        return [""] * rows
    written = table.column(name) if name else [table.split] * rows
    return [split_of(value, table.place(row)) for row, value in enumerate(written)]


def split_of(value: Any, place: str) -> str:
    """The part of the data that a name of a split means."""
    name = SPLITS.get(value.strip().lower()) if isinstance(value, str) else None
    if name is None:
        raise InputError(
            f"{place}: the split is {value!r:.60}: expected train, dev (or val, validation) or test"
        )
    return name
