"""Draw every picture of the documentation: ``python -m docs.figures``."""

from __future__ import annotations

from pathlib import Path

from docs.figures.circle import hard_negative, selections
from docs.figures.measured import chart

FOLDER = Path(__file__).parent


def drawings() -> dict[str, str]:
    """Every picture by the name of its file."""
    return {"hard_negative.svg": hard_negative(), "measured.svg": chart(), **selections()}


if __name__ == "__main__":
    for name, picture in drawings().items():
        (FOLDER / name).write_text(picture, encoding="utf-8")
        print(FOLDER / name)
