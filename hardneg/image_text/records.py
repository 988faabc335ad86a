"""Configurations read from JSON that a stranger may have written."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from typing import Any, TypeVar

__all__ = ["check_number", "check_word", "from_record"]

T = TypeVar("T")


def from_record(kind: type[T], record: Any, where: str) -> T:
    """A dataclass from a JSON object; it checks the values, and names that it does not know are refused."""
    if isinstance(record, kind):
        return record
    known = [one.name for one in fields(kind)]  # type: ignore[arg-type]
    if not isinstance(record, Mapping):
        raise ValueError(f"{where} is {record!r:.60}: expected an object with {', '.join(known)}")
    unknown = [str(name)[:60] for name in record if name not in known]
    if unknown:
        raise ValueError(f"{where} has {unknown[0]!r}, which this version does not know")
    try:
        return kind(**record)
    except TypeError as error:
        raise ValueError(f"{where} is incomplete ({error})") from error


def check_number(name: str, value: Any, least: float, most: float, kind: type = int) -> None:
    """Refuse what is no number of the kind, or outside the range; NaN is in none."""
    number = isinstance(value, kind) or (kind is float and isinstance(value, int))
    if not number or isinstance(value, bool) or not least <= value <= most:
        raise ValueError(f"{name} is {value!r:.60}: expected a number from {least} to {most}")


def check_word(name: str, value: Any, choices: tuple[Any, ...]) -> None:
    """Refuse what is none of the choices; 1 is not True."""
    if not any(type(value) is type(one) and value == one for one in choices):
        known = ", ".join(map(str, choices))
        raise ValueError(f"{name} is {value!r:.60}: expected one of {known}")
