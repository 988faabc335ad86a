"""Tables of text, CSV and JSON lines, as columns."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vsepp.data.captions import decoded_text
from vsepp.errors import InputError
from vsepp.files.json_files import shown, unique

LONGEST_FIELD = 2**24
DELIMITERS = {".csv": ",", ".tsv": "\t"}
EXPECTED = "a header, then a line for each caption"


@dataclass(frozen=True)
class Table:
    """Columns by name, each read when it is asked for.

    ``place`` says where a row stands, ``folder`` is what names of pictures are relative to, and
    ``split`` is that of every row where a folder or a data set names it.
    """

    where: str
    names: tuple[str, ...]
    column: Callable[[str], Sequence[Any]]
    place: Callable[[int], str]
    folder: Path
    split: str = ""


def listed_table(
    path: Path, columns: dict[str, list[Any]], lines: Sequence[int], split: str
) -> Table:
    """A table whose columns are in memory; ``lines`` are the rows' numbers in the file."""

    def place(row: int) -> str:
        return f"{path}, line {lines[row]}"

    return Table(str(path), tuple(columns), columns.__getitem__, place, path.parent, split)


def read_csv(path: Path, split: str = "") -> Table:
    """A CSV (or, by its ending, tab-separated) file in UTF-8 with a header."""
    text = decoded_text(path, "a table", EXPECTED)
    csv.field_size_limit(LONGEST_FIELD)
    delimiter = DELIMITERS[path.suffix.lower()]
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    lines, rows = [], []
    try:
        for row in reader:
            if row:
                rows.append(row)
                lines.append(reader.line_num)
    except csv.Error as error:
        raise InputError(f"{path}, line {reader.line_num} is no CSV ({error}): mend it") from error
    header = check_header(path, [name.strip() for name in rows[0]]) if rows else ()
    for number, row in zip(lines, rows, strict=True):
        if len(row) != len(header):
            raise InputError(
                f"{path}, line {number} has {len(row)} fields, the header {len(header)}: put "
                'captions that hold a comma or a line break into quotation marks ("...")'
            )
    columns = {name: [row[at] for row in rows[1:]] for at, name in enumerate(header)}
    return listed_table(path, columns, lines[1:], split)


def check_header(path: Path, names: list[str]) -> tuple[str, ...]:
    """Refuse a header that names two columns alike."""
    for name in names:
        if names.count(name) > 1:
            raise InputError(f"{path}: the header names the column {shown(name)} twice")
    return tuple(names)


def read_jsonl(path: Path, split: str = "") -> Table:
    """A file of JSON objects, one a line, in UTF-8."""
    text = decoded_text(path, "a table", "a JSON object a line")
    lines, records = [], []
    for number, line in enumerate(text.split("\n"), start=1):
        if line.strip():
            lines.append(number)
            records.append(parsed(path, number, line))
    names = dict.fromkeys(name for record in records for name in record)
    columns = {name: [record.get(name) for record in records] for name in names}
    return listed_table(path, columns, lines, split)


def parsed(path: Path, number: int, line: str) -> dict[str, Any]:
    """The object on a line."""
    try:
        record = json.loads(line, object_pairs_hook=unique)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path}, line {number} is not JSON ({error}): mend it") from error
    if not isinstance(record, dict):
        raise InputError(f"{path}, line {number} is {shown(record)}: expected an object")
    return record
