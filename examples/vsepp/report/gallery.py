"""A few queries of a test split with their top five, right and wrong, for people to look at."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

from vsepp.data.splits import THUMBNAIL_SIDE, Split
from vsepp.evaluate import Embedded
from vsepp.files.writing import write_text
from vsepp.retrieval import nearest, similarity_of

QUERIES = 6
SHOWN = 5


def write_gallery(
    folder: Path, embedded: Embedded, split: Split, measure: str, mined: list[dict[str, Any]]
) -> None:
    """Leave ``gallery.json`` in the folder of a run, for its report."""
    shown = {**gallery(embedded, split, measure), "mined": mined}
    write_text(folder / "gallery.json", json.dumps(shown))


def gallery(embedded: Embedded, split: Split, measure: str) -> dict[str, Any]:
    """Evenly spread queries, the same for every model; pictures as data URLs."""
    similarity = similarity_of(measure)
    return {
        "text": text_queries(embedded, split, similarity.swapped()),
        "image": image_queries(embedded, split, similarity),
    }


def text_queries(embedded: Embedded, split: Split, similarity: Any) -> list[dict[str, Any]]:
    """Captions, the image of each, and the five images that were found."""
    queries = spread(len(embedded.captions))
    count = min(SHOWN, len(embedded.images))
    found = nearest(similarity, embedded.captions[queries], embedded.images, count).tolist()
    shown = []
    for query, rows in zip(queries, found, strict=True):
        answer = int(embedded.image_of[query])
        best = [{"picture": picture(embedded, split, row), "right": row == answer} for row in rows]
        asked = {
            "caption": caption_at(embedded, split, query),
            "answer": picture(embedded, split, answer),
        }
        shown.append({**asked, "top": best})
    return shown


def image_queries(embedded: Embedded, split: Split, similarity: Any) -> list[dict[str, Any]]:
    """Images, and the five captions that were found."""
    queries = spread(len(embedded.images))
    count = min(SHOWN, len(embedded.captions))
    found = nearest(similarity, embedded.images[queries], embedded.captions, count).tolist()
    shown = []
    for query, rows in zip(queries, found, strict=True):
        best = [
            {
                "caption": caption_at(embedded, split, row),
                "right": int(embedded.image_of[row]) == query,
            }
            for row in rows
        ]
        shown.append({"picture": picture(embedded, split, query), "top": best})
    return shown


def spread(count: int) -> list[int]:
    """Up to six rows, evenly spread and off the multiples of five, so that wordings vary."""
    return [count * (2 * number + 1) // (2 * QUERIES) for number in range(min(QUERIES, count))]


def caption_at(embedded: Embedded, split: Split, row: int) -> str:
    """The caption behind an embedding."""
    return split.captions[embedded.captions_kept[row]]


def picture(embedded: Embedded, split: Split, row: int) -> str:
    """The picture behind an embedding as a data URL; empty where there is none."""
    return picture_at(split, int(embedded.images_kept[row]))


def picture_at(split: Split, row: int, side: int = THUMBNAIL_SIDE) -> str:
    """A picture of a split as a data URL; empty where there is none."""
    content = split.images.thumbnail(row, side)
    if content is None:
        return ""
    kind = "png" if content.startswith(b"\x89PNG") else "jpeg"
    return f"data:image/{kind};base64,{base64.b64encode(content).decode('ascii')}"
