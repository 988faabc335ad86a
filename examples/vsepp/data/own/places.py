"""What ``--data`` names: a table, or a folder of a data set; and a digest of its content."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path

from vsepp.data.own.arrow import read_parquet
from vsepp.data.own.saved import is_saved, read_saved
from vsepp.data.own.tables import Table, read_csv, read_jsonl
from vsepp.errors import InputError, MissingInputError
from vsepp.files.inputs import what_stands_at
from vsepp.settings import Data

READERS: dict[str, Callable[[Path, str], Table]] = {
    ".csv": read_csv,
    ".tsv": read_csv,
    ".jsonl": read_jsonl,
    ".parquet": read_parquet,
}
METADATA = tuple(f"metadata{ending}" for ending in READERS)
BLOCK = 2**20
NEEDED = (
    "your own data need --data, a table (.csv, .tsv, .jsonl or .parquet) with a column of images "
    "or features and one of captions, or a folder: what datasets.save_to_disk wrote, or pictures "
    "with a metadata.csv or metadata.jsonl beside them"
)


def existing(place: Path | None) -> Path:
    """The table or the folder, which must be there."""
    if place is None:
        raise InputError(NEEDED)
    if not place.is_dir() and not place.is_file():
        stands = what_stands_at(place)
        found = f", which is {stands}" if stands else ""
        raise MissingInputError(f"no table at {place}{found}: {NEEDED}")
    return place


def read_tables(place: Path) -> list[Table]:
    """The table, or those of a folder."""
    if place.is_dir():
        if is_saved(place):
            return read_saved(place)
        return [READERS[path.suffix](path, split) for path, split in metadata_of(place)]
    reader = READERS.get(place.suffix.lower())
    if reader is None:
        raise InputError(
            f"{place} ends in {place.suffix or 'nothing'}: expected {', '.join(READERS)}"
        )
    return [reader(place, "")]


def metadata_of(folder: Path) -> list[tuple[Path, str]]:
    """The metadata of a folder of pictures, or of its folders train, validation and test."""
    whole = [(folder / name, "") for name in METADATA if (folder / name).is_file()]
    of_parts = [
        (inside / name, inside.name)
        for inside in sorted(path for path in folder.iterdir() if path.is_dir())
        for name in METADATA
        if (inside / name).is_file()
    ]
    found = whole or of_parts
    if not found or len({path.parent for path, _ in found}) < len(found):
        what = "several files" if found else "no file"
        raise InputError(f"{folder} has {what} {', '.join(METADATA)} for its pictures: {NEEDED}")
    return found


def digest(place: Path, data: Data) -> str:
    """The SHA-256 of everything that is read but pictures in files of their own: a run goes on with
    the data that it began with, or not at all.
    """
    found = hashlib.sha256()
    for path in read_files(place, data):
        found.update(f"{path.stat().st_size} ".encode())
        with path.open("rb") as stream:
            while block := stream.read(BLOCK):
                found.update(block)
    return found.hexdigest()


def read_files(place: Path, data: Data) -> Iterator[Path]:
    """The files whose content counts."""
    if not place.is_dir():
        yield from (place, *[path for path in (features_beside(place, data),) if path.is_file()])
    elif is_saved(place):
        inside = (Path(top) / name for top, _, names in os.walk(place) for name in names)
        yield from sorted(path for path in inside if not path.name.startswith(("cache-", ".")))
    else:
        yield from (path for path, _ in metadata_of(place))


def features_beside(place: Path, data: Data) -> Path:
    """The array whose rows a table numbers: ``--features``, else ``captions.npy`` beside
    ``captions.csv``.
    """
    return Path(data.features) if data.features else place.with_suffix(".npy")
