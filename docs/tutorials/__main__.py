"""Run the tutorials and write their pages: ``python -m docs.tutorials [NAME ...]``.

A script in percent format becomes Markdown: its text, its code, what each cell prints and draws. The three of them
take some minutes of one thread; Multi30k is looked for as the script says.
"""

from __future__ import annotations

import contextlib
import io
import os
import re
import sys
from pathlib import Path
from typing import Any, NamedTuple

os.environ.setdefault("MPLBACKEND", "Agg")

import matplotlib as mpl
import matplotlib.pyplot as plt

FOLDER = Path(__file__).parent
EXAMPLES = FOLDER.parents[1] / "examples"
PREFIX = "tutorial_"
SEEDS = "3"
GREY = "#888888"
"""Reads on a white page and on a dark one; figures have no ground of their own."""
STYLE = {
    **dict.fromkeys(("axes.edgecolor", "axes.labelcolor", "axes.titlecolor"), GREY),
    **dict.fromkeys(("text.color", "xtick.color", "ytick.color", "legend.labelcolor"), GREY),
    "axes.facecolor": "none",
    "savefig.transparent": True,
    "savefig.bbox": "tight",
    "savefig.dpi": 110,
    "legend.framealpha": 0,
}


class Cell(NamedTuple):
    """A part of a script: ``text`` is Markdown, or code that begins at ``line``."""

    markdown: bool
    text: str
    line: int


def scripts() -> list[Path]:
    """Every tutorial."""
    return sorted(EXAMPLES.glob(f"{PREFIX}*.py"))


def page_of(script: Path) -> Path:
    """Where the page of a script is."""
    return FOLDER / f"{script.stem.removeprefix(PREFIX)}.md"


def cells(source: str) -> list[Cell]:
    """The cells of a script in percent format, in order."""
    marks = [*re.finditer(r"^# %%( \[markdown\])?\n", source, re.MULTILINE)]
    ends = [mark.start() for mark in marks[1:]] + [len(source)]
    found = []
    for mark, end in zip(marks, ends, strict=True):
        text = source[mark.end() : end].strip("\n")
        if mark[1]:
            text = re.sub(r"^# ?", "", text, flags=re.MULTILINE)
        found.append(Cell(bool(mark[1]), text, source.count("\n", 0, mark.end())))
    return found


def executed(cell: Cell, names: dict[str, Any], script: Path) -> str:
    """What a cell of code prints."""
    printed = io.StringIO()
    # as many empty lines as stand above it, so that an error names the right line of the script
    code = compile("\n" * cell.line + cell.text, str(script), "exec")
    with contextlib.redirect_stdout(printed):
        exec(code, names)
    return printed.getvalue().rstrip()


def drawn(script: Path, first: int) -> list[str]:
    """Write the open figures beside the page, and close them; their lines of Markdown."""
    lines = []
    for number, which in enumerate(plt.get_fignums(), first):
        figure = plt.figure(which)
        file = page_of(script).with_name(f"{page_of(script).stem}-{number}.png")
        figure.savefig(file)
        lines.append(f"![{figure.get_suptitle() or 'figure'}]({file.name})")
        plt.close(figure)
    return lines


def page(script: Path) -> str:
    """Run a script; its page, whose figures are written."""
    names: dict[str, Any] = {"__name__": "__main__", "__file__": str(script)}
    command = f"`python examples/{script.name}`"
    note = f"*This page is what {command} prints and draws, run with `SEEDS={SEEDS}`.*"
    parts: list[str] = []
    figures = 0
    for cell in cells(script.read_text(encoding="utf-8")):
        if cell.markdown:
            parts.append(cell.text)
            continue
        parts.append(f"```python\n{cell.text}\n```")
        printed = executed(cell, names, script)
        if printed:
            parts.append(f"```text\n{printed}\n```")
        images = drawn(script, figures + 1)
        figures += len(images)
        parts += images
    title, *rest = parts[0].split("\n", 1)
    return "\n\n".join([title, note, *(part.strip("\n") for part in rest), *parts[1:]]) + "\n"


def main() -> None:
    """Write the pages of the named tutorials, or of all."""
    os.environ["SEEDS"] = SEEDS
    sys.path.insert(0, str(EXAMPLES))
    # figures stay open until the end of their cell
    plt.show = lambda: None
    for script in scripts():
        if sys.argv[1:] and page_of(script).stem not in sys.argv[1:]:
            continue
        with mpl.rc_context(STYLE):
            page_of(script).write_text(page(script), encoding="utf-8")
        print(page_of(script))


if __name__ == "__main__":
    main()
