"""Caption files: one caption a line, in UTF-8; and how long a caption may be."""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import islice
from pathlib import Path
from typing import NamedTuple

from vsepp.data.caption_forms import recognised
from vsepp.errors import InputError
from vsepp.files.inputs import kind_of, read_input

TOKEN = re.compile(r"\w+|[^\w\s]")
LONGEST_WORD = 64
UTF16 = (b"\xff\xfe", b"\xfe\xff")
BYTE_ORDER_MARK = b"\xef\xbb\xbf"


class Captions(NamedTuple):
    """The captions of a file, in order, and what there is to say about how they were read."""

    texts: tuple[str, ...]
    notes: tuple[str, ...] = ()


def read_captions(path: Path) -> Captions:
    """The captions of a file. Says which line is at fault.

    Captions written as Python bytes, token lists or quoted strings, or behind an image's name or
    id, are recognised where every line is; the notes say so.
    """
    lines = read_lines(path, "captions", "one caption a line, in UTF-8")
    for number, line in enumerate(lines, start=1):
        if not line:
            raise InputError(
                f"{path}, line {number}: the caption is empty: write one; removing the line "
                "would shift every caption after it to another image"
            )
    return Captions(*recognised(path, lines))


def read_lines(path: Path, what: str, remedy: str) -> list[str]:
    """The lines of a text file in UTF-8, with or without a byte order mark, stripped; blank lines
    at its end are left out.
    """
    content = text_bytes(path, what, remedy)
    # Only files without a line feed end their lines as old Macs did: elsewhere a carriage return
    # stands inside a caption, and its line is still one caption.
    parts = content.rstrip().split(b"\n" if b"\n" in content.rstrip() else b"\r")
    return [decoded(path, number, part).strip() for number, part in enumerate(parts, start=1)]


def decoded_text(path: Path, what: str, remedy: str) -> str:
    """A whole text file in UTF-8, with or without a byte order mark; its line breaks as they are."""
    parts = text_bytes(path, what, remedy).split(b"\n")
    return "\n".join(decoded(path, number, part) for number, part in enumerate(parts, start=1))


def text_bytes(path: Path, what: str, remedy: str) -> bytes:
    """The content of a text file, without its byte order mark."""
    content = read_input(path, what, remedy)
    if content.startswith(UTF16) or b"\0" in content:
        kind = kind_of(path) if content.startswith(UTF16) else "no text: it holds zero bytes"
        raise InputError(
            f"{path} is {kind}: expected {what}, {remedy}; if it is UTF-16, convert it "
            "(iconv -f UTF-16 -t UTF-8)"
        )
    content = content.removeprefix(BYTE_ORDER_MARK)
    if not content.strip():
        raise InputError(f"{path} is empty: expected {what}, {remedy}")
    return content


def decoded(path: Path, number: int, line: bytes) -> str:
    """A line as text."""
    try:
        return line.decode("utf-8")
    except UnicodeDecodeError as error:
        raise InputError(
            f"{path}, line {number}: byte {error.start + 1} is not UTF-8 ({error.reason}): "
            "convert the file (iconv -f LATIN1 -t UTF-8, if that is what it is), or mend the line"
        ) from error


def shortened(captions: Sequence[str], max_words: int) -> tuple[tuple[str, ...], int]:
    """The captions cut at so many words, and how many were longer.

    A word is a run of letters and digits or a single other sign, whatever the tokenizer, and a
    caption has at most 64 characters for each.
    """
    cut = [shortened_caption(caption, max_words) for caption in captions]
    return tuple(cut), sum(one != other for one, other in zip(cut, captions, strict=True))


def shortened_caption(caption: str, max_words: int) -> str:
    """A caption cut after its last allowed word."""
    if len(caption) <= max_words:
        return caption
    caption = caption[: LONGEST_WORD * max_words]
    words = list(islice(TOKEN.finditer(caption), max_words + 1))
    return caption if len(words) <= max_words else caption[: words[max_words - 1].end()]
