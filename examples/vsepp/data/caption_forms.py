"""Forms that captions take in users' files, recognised when every line of a file has one.

Python 3 wrote ``b'a dog'`` where Python 2 wrote ``a dog``; tokenized captions are stored as the
text of a list; Flickr's own files put the image's name in front.
"""

from __future__ import annotations

import ast
import json
import re
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from vsepp.data.splits import CAPTIONS_EACH
from vsepp.errors import InputError

PICTURE = r"[^\t,|]+\.(?:jpe?g|png|gif|bmp|webp)"
IDS = re.compile(rf"((?:\d+|{PICTURE})(?:#\d+)?)(?:\t\d+)?\t\s*(.*)", re.IGNORECASE)
NAMES = re.compile(rf"({PICTURE}(?:#\d+)?)\s*(?:\|\s*\d+\s*\||[,|])\s*(.*)", re.IGNORECASE)
NUMBERS = re.compile(r"[\d\s,;.\[\]()+-]+")
SIDE_BY_SIDE = re.compile(r"^\[.*['\"]\s+[bBuU]?['\"]")
"""numpy prints words without commas between them; Python would run such words together."""
MOSTLY = 0.5
"""Beyond this share of lines in a form that a caption might have by chance, the others are wrong."""


@dataclass(frozen=True)
class Form:
    """A way to write a caption. ``read`` gives the caption, or None for a line of another form;
    ``unmistakable`` forms are never a caption as people write one.
    """

    name: str
    looks: re.Pattern[str]
    read: Callable[[str], str | None]
    unmistakable: bool = True


def from_literal(line: str) -> str | None:
    """The text of a Python literal: bytes in UTF-8, a string, or a list of words of either."""
    if SIDE_BY_SIDE.search(line):
        return None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            value = ast.literal_eval(line)
        words = value if isinstance(value, list | tuple) else [value]
        if not all(isinstance(word, str | bytes) for word in words):
            return None
        return " ".join(w.decode("utf-8") if isinstance(w, bytes) else w for w in words).strip()
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return None


def from_json(line: str) -> str | None:
    """The text of a JSON string, or of a field of a CSV file."""
    try:
        value = json.loads(line)
    except ValueError:
        value = line[1:-1].replace('""', "\0")
        value = None if '"' in value else value.replace("\0", '"')
    return value.strip() if isinstance(value, str) else None


def behind_name(line: str) -> str | None:
    """The caption behind an image's name or id; a CSV file's quotes are taken off."""
    found = IDS.fullmatch(line) or NAMES.fullmatch(line)
    if found is None:
        return None
    caption = found[2].strip()
    quoted = len(caption) > 1 and caption[0] == caption[-1] == '"'
    return caption[1:-1].replace('""', '"').strip() if quoted else caption


def unreadable(line: str) -> None:
    """For forms that hold no caption."""


BYTES = Form("the text of Python bytes, b'...'", re.compile(r"[bB](['\"]).*\1"), from_literal)
FORMS = (
    BYTES,
    Form("the text of Python strings, u'...'", re.compile(r"[uU](['\"]).*\1"), from_literal),
    Form("lists of tokens", re.compile(r"[\[(]\s*[bBuU]?['\"].*['\"],?\s*[\])]"), from_literal),
    Form("an image's name or id, then the caption", IDS, behind_name),
    Form("an image's name, then the caption", NAMES, behind_name),
    Form("quoted strings", re.compile(r'".*"'), from_json, unmistakable=False),
    Form("strings in single quotes", re.compile(r"'.*'"), from_literal, unmistakable=False),
    Form("JSON objects", re.compile(r"\{.*\}"), unreadable),
    Form("fields separated by tabs", re.compile(r".*\t.*"), unreadable, unmistakable=False),
    Form("numbers or signs alone", NUMBERS, unreadable, unmistakable=False),
)


def recognised(path: Path, lines: Sequence[str]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The captions in these lines, and a note where they are written in another form."""
    for form in FORMS:
        count = sum(form.looks.fullmatch(line) is not None for line in lines)
        if count == len(lines) or (form.unmistakable and count > 0):
            return read_form(path, lines, form)
        if count > max(MOSTLY * len(lines), 1):
            refuse_mixture(path, lines, form, [bool(form.looks.fullmatch(one)) for one in lines])
    return tuple(lines), ()


def read_form(
    path: Path, lines: Sequence[str], form: Form
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The captions of a file all of whose lines have this form."""
    read = [form.read(line) if form.looks.fullmatch(line) else None for line in lines]
    if not any(read):
        raise InputError(
            f"{path} holds {form.name} ({lines[0][:60]!r}): expected a caption a line, as plain "
            "text in UTF-8"
        )
    if None in read:
        refuse_mixture(path, lines, form, [one is not None for one in read])
    captions = [one or "" for one in read]
    if "" in captions:
        raise InputError(
            f"{path}, line {captions.index('') + 1}: the caption is empty: write one; removing the "
            "line would shift every caption after it to another image"
        )
    if form.read is behind_name:
        check_order(path, lines)
    if form is not BYTES and any(BYTES.looks.fullmatch(one) for one in captions):
        captions = list(recognised(path, captions)[0])
    return tuple(captions), (f"captions were read from {form.name}, as in {lines[0][:40]!r}",)


def refuse_mixture(path: Path, lines: Sequence[str], form: Form, fits: Sequence[bool]) -> None:
    """Say which line differs from the others: the first of the fewer."""
    fewer = sum(fits) * 2 <= len(fits)
    number = list(fits).index(fewer)
    are = f"are {form.name}" if sum(fits) > 1 else f"is {form.name}"
    raise InputError(
        f"{path}: {sum(fits):,} of {len(lines):,} lines {are}, but line "
        f"{number + 1} is {'' if fewer else 'not: '}{lines[number][:60]!r}: expected plain captions, or "
        "all lines alike"
    )


def check_order(path: Path, lines: Sequence[str]) -> None:
    """Where the names repeat they must agree with the layout: five lines an image, in a row."""
    found = (IDS.fullmatch(line) or NAMES.fullmatch(line) for line in lines)
    names = [one[1].partition("#")[0] for one in found if one]
    if len(set(names)) == len(names):
        return
    for start in range(0, len(names), CAPTIONS_EACH):
        group = names[start : start + CAPTIONS_EACH]
        other = next((number for number, one in enumerate(group) if one != group[0]), None)
        if other is not None:
            raise InputError(
                f"{path}, line {start + other + 1} belongs to {group[other]!r}, but line {start + 1} "
                f"to {group[0]!r}: expected {CAPTIONS_EACH} captions of each image one after another"
            )
