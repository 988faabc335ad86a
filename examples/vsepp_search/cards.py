"""What is found as HTML: cards with pictures, or with captions where there are none.

Everything that comes from data is escaped by Jinja2; pictures are small ones inside the page, so no file
is served.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from vsepp.data.splits import THUMBNAIL_SIDE, Split
from vsepp.report.gallery import picture_at

TEMPLATES = Environment(
    loader=FileSystemLoader(Path(__file__).parent),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)


class Cards:
    """The images and captions of a split, for people to look at; pictures are read when they are shown."""

    def __init__(self, split: Split) -> None:
        self.split = split
        self.first: dict[int, str] = {}
        for caption, image in zip(split.captions, split.image_of.tolist(), strict=True):
            self.first.setdefault(image, caption)

    def caption(self, image: int) -> str:
        """The first caption of an image."""
        return self.first.get(image, f"image {image + 1}")

    def picture(self, image: int, side: int = THUMBNAIL_SIDE) -> str:
        """A picture of at most so many pixels a side as a data URL; empty where there is none."""
        return picture_at(self.split, image, side)

    def page(self, template: str, **values: Any) -> str:
        """A template, filled in."""
        return TEMPLATES.get_template(template).render(cards=self, **values)
