"""Griffe extension: docstrings in the style of this project as Markdown, for the API pages."""

from __future__ import annotations

import re
from typing import Any

from griffe import Extension, Object

EXAMPLE = re.compile(r"^(\s*)Example:$", re.MULTILINE)
SOURCE = re.compile(r"^(\s*)Source: ", re.MULTILINE)
SEVERAL = re.compile(r"^( +)(\w+(?:, \w+)+): (.*\n?(?:\1 +.*\n?)*)", re.MULTILINE)
BEFORE_CODE = re.compile(r"::$", re.MULTILINE)


def one_by_one(found: re.Match[str]) -> str:
    """Arguments that share a description, the others after the first."""
    indent, names, description = found.groups()
    first, *others = names.split(", ")
    lines = "".join(f"{indent}{name}: see ``{first}``.\n" for name in others)
    return f"{indent}{first}: {description.rstrip()}\n{lines}"


def as_markdown(text: str) -> str:
    """Sections of examples by the name that the parser knows; no second colon before code; the source in bold."""
    text = SEVERAL.sub(one_by_one, text)
    text = EXAMPLE.sub(r"\1Examples:", text)
    return BEFORE_CODE.sub(":", SOURCE.sub(r"\1**Source:** ", text))


class Docstrings(Extension):
    """Rewrites every docstring before it is parsed."""

    def on_instance(self, *, obj: Object, **_: Any) -> None:
        """See ``griffe.Extension``."""
        if obj.docstring:
            obj.docstring.value = as_markdown(obj.docstring.value)
