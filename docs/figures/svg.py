"""Elements of an SVG picture in colours that are legible on white and on black."""

from __future__ import annotations

from collections.abc import Iterable
from html import escape

INK, FAINT = "#7a818c", "#7a818c55"
QUERY, POSITIVE, NEGATIVE = "#4a83d1", "#35a05c", "#e0603a"


def number(value: float) -> str:
    """Two decimals at most."""
    return f"{value:.2f}".rstrip("0").rstrip(".")


def element(name: str, content: str | None = None, **attributes: object) -> str:
    """An element; ``stroke_width`` becomes ``stroke-width``."""
    told = "".join(
        f' {key.replace("_", "-")}="{number(v) if isinstance(v, float) else v}"'
        for key, v in attributes.items()
    )
    return f"<{name}{told}/>" if content is None else f"<{name}{told}>{content}</{name}>"


def words(x: float, y: float, text: str, **attributes: object) -> str:
    """A line of text."""
    return element("text", escape(text), **({"x": x, "y": y, "fill": INK} | attributes))


def line(x1: float, y1: float, x2: float, y2: float, **attributes: object) -> str:
    """A straight line."""
    place = {"x1": x1, "y1": y1, "x2": x2, "y2": y2, "stroke": INK}
    return element("line", **(place | attributes))


def dot(x: float, y: float, radius: float, **attributes: object) -> str:
    """A disc."""
    return element("circle", cx=x, cy=y, r=radius, **attributes)


def picture(width: int, height: int, title: str, parts: Iterable[str]) -> str:
    """The whole file; ``title`` is what a screen reader says."""
    opening = (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" '
        f'viewBox="0 0 {width} {height}" role="img" font-family="system-ui, sans-serif" font-size="14">'
    )
    return "\n".join([opening, element("title", escape(title)), *parts, "</svg>\n"])
