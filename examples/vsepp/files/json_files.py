"""JSON files and the values in them, checked as they are read."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from vsepp.errors import InputError
from vsepp.files.inputs import kind_of, read_input, reason

MEND = "mend the file, or fetch it again"


def read_json(path: Path, what: str, remedy: str) -> Any:
    """Parse a JSON file; says where it breaks, or where one can be had."""
    content = read_input(path, what, remedy)
    try:
        text = content.decode(json.detect_encoding(content), "strict")
        return json.loads(text, object_pairs_hook=unique)
    except UnicodeDecodeError as error:
        raise InputError(
            f"{path}: byte {error.start + 1} is not UTF-8: convert the file "
            "(iconv -f LATIN1 -t UTF-8, if that is what it is)"
        ) from error
    except json.JSONDecodeError as error:
        raise InputError(
            f"{path} is not complete JSON ({error}): it is {broken(path, content)}; fetch it again"
        ) from error
    except (ValueError, RecursionError) as error:
        raise InputError(
            f"{path} is not JSON as expected ({reason(error)}): expected {what}; {remedy}"
        ) from error


def broken(path: Path, content: bytes) -> str:
    """Why a file is no JSON: cut off, or something else."""
    return "truncated" if content.lstrip()[:1] in (b"{", b"[") else kind_of(path)


def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object whose keys are all different: of two equal ones, one would be lost."""
    found = dict(pairs)
    if len(found) < len(pairs):
        keys = [key for key, _ in pairs]
        twice = next(key for key in keys if keys.count(key) > 1)
        raise ValueError(f"an object has the key {twice!r} twice")
    return found


def shown(value: Any) -> str:
    """A value for a message: as JSON writes it, short."""
    try:
        text = json.dumps(value)
    except (TypeError, ValueError, RecursionError):
        text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def field(record: Any, name: str, kind: type, where: str) -> Any:
    """A field of an object, of the kind that is expected."""
    if not isinstance(record, dict):
        raise InputError(f"{where} is {shown(record)}: expected an object with {name}; {MEND}")
    if name not in record:
        raise InputError(f"{where} lacks {name}: {MEND}")
    return of_kind(record[name], kind, f"{where}: {name}")


def of_kind(value: Any, kind: type, where: str) -> Any:
    """A value that is a text, a whole number, a list or an object, as expected."""
    if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
        words = {str: "text", int: "a whole number", list: "a list", dict: "an object"}
        raise InputError(f"{where} is {shown(value)}: expected {words[kind]}; {MEND}")
    return value
