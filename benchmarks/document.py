"""Tables that programs write into documents, between two markers: nothing in them is typed."""

from __future__ import annotations

from pathlib import Path


def markers(name: str) -> tuple[str, str]:
    """The lines around a table, which Markdown does not show."""
    return f"<!-- {name} -->", f"<!-- /{name} -->"


def write(file: Path, name: str, block: str) -> None:
    """Put a table between its markers."""
    text = file.read_text(encoding="utf-8")
    start, end = markers(name)
    if start not in text or end not in text:
        raise SystemExit(f"no {start} ... {end} in {file}: put the two lines where the table goes")
    before, rest = text.split(start, 1)
    file.write_text(f"{before}{start}\n{block}\n{end}{rest.split(end, 1)[1]}", encoding="utf-8")
