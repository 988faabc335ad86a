"""The pictures that rows name, or hold."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from vsepp.data.images import there
from vsepp.data.own.stored import StoredPicture
from vsepp.data.own.tables import Table
from vsepp.data.picture_folder import PictureFolder
from vsepp.errors import InputError
from vsepp.settings import Data


class Picture(NamedTuple):
    """A picture, and what tells it from all others; None where features stand for it."""

    key: str
    file: Path | StoredPicture | None = None


def pictures_of(table: Table, column: str, data: Data, optional: bool) -> list[Picture]:
    """The picture of every row. Beside features pictures are ``optional``: they are for the report
    alone.
    """
    values = table.column(column)
    if len(values) and isinstance(values[0], StoredPicture):
        return [stored(one, table.place(row)) for row, one in enumerate(values)]
    names = [name_of(value, table.place(row)) for row, value in enumerate(values)]
    if not names:
        return []
    base = picture_base(table, names[0], data)
    if optional and not there(base / names[0]):
        return [Picture(name) for name in names]
    folder = PictureFolder(base, within=())
    # Of a folder for each split the same name in two of them is two pictures.
    apart = table.split and table.folder.name == table.split and not data.images
    before = f"{table.split}/" if apart else ""
    return [
        Picture(f"{before}{name}", folder.picture(name, table.place(row)))
        for row, name in enumerate(names)
    ]


def stored(picture: StoredPicture, place: str) -> Picture:
    """A picture in a table, known by its content."""
    content = picture.read_bytes()
    if not content:
        raise InputError(
            f"{place}: the table does not hold the picture, at most its name: save it with the "
            "pictures inside"
        )
    return Picture(hashlib.sha256(content).hexdigest(), picture)


def name_of(value: Any, place: str) -> str:
    """The name of a picture in a row."""
    name = str(value) if type(value) is int else value
    if not isinstance(name, str) or not name.strip():
        raise InputError(f"{place}: the image is {value!r:.60}: expected the name of a picture")
    return name.strip()


def picture_base(table: Table, first: str, data: Data) -> Path:
    """What names are relative to: ``--images``; else ``images`` beside the table, or the table's
    own folder, wherever the ``first`` of the pictures is.
    """
    if data.images:
        return Path(data.images)
    beside = table.folder / "images"
    elsewhere = there(table.folder / first) and not there(beside / first)
    return beside if beside.is_dir() and not elsewhere else table.folder


def paths_of(pictures: Sequence[Path | StoredPicture | None]) -> tuple[Path, ...]:
    """The files of pictures to show; none if some have no file of their own."""
    paths = tuple(one for one in pictures if isinstance(one, Path))
    return paths if len(paths) == len(pictures) else ()
