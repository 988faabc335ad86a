"""What ``result.json`` and ``gallery.json`` must hold, for runs that may come from anywhere."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

from hardneg.metrics import DirectionMetrics

LARGEST = 1e15
PICTURE = re.compile(r"data:image/(?:png|jpeg);base64,[A-Za-z0-9+/]+={0,2}")


def name(value: Any) -> bool:
    """A short text without control characters, which a terminal would obey."""
    return isinstance(value, str) and value.isprintable() and 0 < len(value) <= 200


def number(value: Any) -> bool:
    """A number that a chart can show: finite, and of no more than 15 digits."""
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= LARGEST


def percent(value: Any) -> bool:
    """A share of a hundred."""
    return number(value) and 0 <= value <= 100


def count(value: Any) -> bool:
    """How many there are, at least one."""
    return number(value) and isinstance(value, int) and value > 0


def text(value: Any) -> bool:
    """Any text."""
    return isinstance(value, str)


def flag(value: Any) -> bool:
    """True or false."""
    return isinstance(value, bool)


def settings(value: Any) -> bool:
    """Settings of a run, which ``Settings.from_record`` looks at more closely."""
    return isinstance(value, dict)


def picture(value: Any) -> str:
    """A picture inside the page, PNG or JPEG; nothing else that a page would fetch or run."""
    return value if isinstance(value, str) and PICTURE.fullmatch(value) else ""


DIRECTION = {
    one.name: percent if one.name.startswith("recall") else number
    for one in fields(DirectionMetrics)
}
METRICS = {"image_to_text": DIRECTION, "text_to_image": DIRECTION}
ROW = {"epoch": number, "step": number, "rsum": number, "loss": number}
RESULT = {
    "recipe": name,
    "settings": settings,
    "results": {name: METRICS},
    "history": [ROW],
    "seconds_per_epoch": number,
    "peak_memory_mib": number,
    "tokenizer": name,
    "torch": name,
    "device": name,
}
FOUND_PICTURE, FOUND_CAPTION = {"picture": text, "right": flag}, {"caption": text, "right": flag}
GALLERY = {
    "text": [{"caption": text, "answer": text, "top": [FOUND_PICTURE]}],
    "image": [{"picture": text, "top": [FOUND_CAPTION]}],
}
PAIR = {"caption": text, "picture": text, "score": number}
MINED = [{"epoch": count, "anchors": [{**PAIR, "negatives": [PAIR]}]}]
MINING = {"active_anchors": number, "positive": number, "negative": number}
SIZES = {"dev": [count], "test": [count]}
"""Parts that runs of earlier versions lack: the negatives of a gallery, the mining of a row of the
history, the sizes of a result (images, captions).
"""


def check(path: Path, value: Any, shape: Any, where: str = "") -> None:
    """Refuse a value that has not the shape: a test, a list of one shape, the named parts of an
    object, or (one test as the name) an object of any names.
    """
    if isinstance(shape, list):
        expect(path, isinstance(value, list), where, "a list")
        for one in value:
            check(path, one, shape[0], where)
    elif isinstance(shape, Mapping):
        expect(path, isinstance(value, dict), where, "an object")
        for key, part in named_parts(path, value, shape, where).items():
            expect(path, key in value, where, f"{key!r} in it")
            check(path, value[key], part, f"{where}.{key}" if where else key)
    else:
        expect(path, shape(value), where, f"a {shape.__name__}")


def check_newer(path: Path, values: Any, name: str, shape: Any) -> None:
    """Look at a part that earlier versions did not write, where there is one."""
    if name in values:
        check(path, values[name], shape, name)


def named_parts(
    path: Path, value: Mapping[str, Any], shape: Mapping[Any, Any], where: str
) -> Mapping[str, Any]:
    """The shape of each part; under ``{test: part}`` every name that the value has."""
    first = next(iter(shape))
    if not callable(first):
        return shape
    expect(
        path, bool(value) and all(map(first, value)), where, f"each name in it a {first.__name__}"
    )
    return dict.fromkeys(value, shape[first])


def expect(path: Path, good: bool, where: str, what: str) -> None:
    """Refuse a file, and say which part of it is not what a run writes."""
    if not good:
        raise ValueError(
            f"{path} was not written by a run: expected {where or 'it'} to be {what}"[:300]
        )
