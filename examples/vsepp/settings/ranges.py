"""What options may be: a range of numbers, one of several words, a text."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Annotated, Any, Literal, get_args, get_origin, get_type_hints

from vsepp.errors import InputError


@dataclass(frozen=True)
class Range:
    """The numbers from ``least`` to ``most``; ``above`` and ``below`` leave out the bound itself."""

    least: float
    most: float
    above: bool = False
    below: bool = False

    def __contains__(self, number: float) -> bool:
        """Whether a number is in the range; NaN is in none."""
        low = number > self.least if self.above else number >= self.least
        return low and (number < self.most if self.below else number <= self.most)

    def __str__(self) -> str:
        low = "more than" if self.above else "at least"
        high = "less than" if self.below else "at most"
        return f"{low} {self.least:g} and {high} {self.most:.12g}"


WORDS = {
    int: "a whole number",
    float: "a number",
    bool: "true or false",
    str: "a text",
}


def check_options(options: object) -> None:
    """Refuse values that an option's type does not allow: they come from command lines, and from
    files that a stranger may have written.
    """
    for name, kind in hints(type(options)).items():
        expected = expectation(kind, getattr(options, name))
        if expected:
            option = f"--{name.replace('_', '-')}"
            raise InputError(f"{option} is {getattr(options, name)}: expected {expected}")


@cache
def hints(kind: type) -> dict[str, Any]:
    """The types of an options class, with their ranges."""
    return get_type_hints(kind, include_extras=True)


def expectation(kind: Any, value: Any) -> str:
    """What was expected of a value that its type does not allow; empty if it does."""
    if type(None) in get_args(kind):
        if value is None:
            return ""
        kind = get_args(kind)[0]
    if get_origin(kind) is Literal:
        return "" if value in get_args(kind) else f"one of {', '.join(get_args(kind))}"
    plain, *ranges = get_args(kind) if get_origin(kind) is Annotated else (kind,)
    if plain not in WORDS:
        return ""
    right = isinstance(value, plain) or (plain is float and isinstance(value, int))
    if not right or (isinstance(value, bool) and plain is not bool):
        return WORDS[plain]
    return next((str(one) for one in ranges if isinstance(one, Range) and value not in one), "")
