"""A few queries of a test split with their top five, right and wrong, for people to look at."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from vsepp.evaluate import Embedded
from vsepp.files import write_text
from vsepp.retrieval import similarity_of
from vsepp.splits import Split

QUERIES = 6
SHOWN = 5


def write_gallery(folder: Path, embedded: Embedded, split: Split, measure: str) -> None:
    """Leave ``gallery.json`` in the folder of a run, for its report."""
    shown = gallery(embedded, split, measure)
    write_text(folder / "gallery.json", json.dumps(shown))


def gallery(embedded: Embedded, split: Split, measure: str) -> dict[str, Any]:
    """Evenly spread queries, the same for every model, in both directions; pictures as data
    URLs.
    """
    similarity = similarity_of(measure)
    of_text = spread(len(embedded.captions))
    of_image = spread(len(embedded.images))
    found_images = top(similarity.swapped(), embedded.captions[of_text], embedded.images)
    found_captions = top(similarity, embedded.images[of_image], embedded.captions)
    return {
        "text": [
            {
                "caption": caption_at(embedded, split, query),
                "answer": picture(embedded, split, int(embedded.image_of[query])),
                "top": [
                    {
                        "picture": picture(embedded, split, row),
                        "right": row == embedded.image_of[query].item(),
                    }
                    for row in rows
                ],
            }
            for query, rows in zip(of_text, found_images, strict=True)
        ],
        "image": [
            {
                "picture": picture(embedded, split, query),
                "top": [
                    {
                        "caption": caption_at(embedded, split, row),
                        "right": embedded.image_of[row].item() == query,
                    }
                    for row in rows
                ],
            }
            for query, rows in zip(of_image, found_captions, strict=True)
        ],
    }


def spread(count: int) -> list[int]:
    """Up to six rows, evenly spread and off the multiples of five, so that wordings vary."""
    return [count * (2 * number + 1) // (2 * QUERIES) for number in range(min(QUERIES, count))]


def top(similarity: Any, queries: Tensor, candidates: Tensor) -> list[list[int]]:
    """The rows of the five best candidates of each query."""
    with torch.inference_mode():
        scores = similarity(queries, candidates)
        return scores.topk(min(SHOWN, len(candidates)), dim=1).indices.tolist()


def caption_at(embedded: Embedded, split: Split, row: int) -> str:
    """The caption behind an embedding."""
    return split.captions[embedded.captions_kept[row]]


def picture(embedded: Embedded, split: Split, row: int) -> str:
    """The picture behind an embedding as a data URL; empty where there is none."""
    content = split.images.thumbnail(int(embedded.images_kept[row]))
    if content is None:
        return ""
    kind = "png" if content.startswith(b"\x89PNG") else "jpeg"
    return f"data:image/{kind};base64,{base64.b64encode(content).decode('ascii')}"
