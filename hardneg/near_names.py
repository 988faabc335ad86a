"""The name that was meant by one that is not known."""

from __future__ import annotations

from collections.abc import Iterable

__all__ = ["meant", "plain"]


def plain(name: str) -> str:
    """A name without case, hyphens and underscores: ``"semi-hard"`` is ``"semihard"``."""
    return name.lower().replace("-", "").replace("_", "")


def meant(name: object, known: Iterable[str]) -> str:
    """`` (did you mean 'hardest'?)`` for the nearest of the known names; nothing where none is near."""
    import difflib

    choices = {plain(one): one for one in known}
    near = difflib.get_close_matches(plain(str(name)), choices, n=1, cutoff=0.61)
    return "".join(f" (did you mean {choices[one]!r}?)" for one in near)
