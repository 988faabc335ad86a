"""The images of a split as one parquet file that Embedding Atlas reads.

Its columns: https://apple.github.io/embedding-atlas/tool.html; `neighbors` holds zero-based rows, the
image's own first, and cosine distances.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import torch
import torch.nn.functional as F
from torch import Tensor

from hardneg import TopK, mine
from hardneg.metrics import ranks
from vsepp.data.images import Features
from vsepp.data.splits import ImageSource
from vsepp.errors import InputError
from vsepp.files.writing import require_writable, write_file
from vsepp_search.index import Index

ROWS = 1_000
LIST = pa.struct([("ids", pa.list_(pa.int64())), ("distances", pa.list_(pa.float32()))])
PICTURE = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
COLUMNS = [
    ("text", pa.string()),
    ("x", pa.float32()),
    ("y", pa.float32()),
    ("neighbors", LIST),
    ("best_rank", pa.int64()),
    ("positive_score", pa.float32()),
    ("negative_score", pa.float32()),
    ("hardest_negative", pa.string()),
]


def check_place(path: Path) -> None:
    """Refuse a file that cannot be written, or whose name no reader takes for parquet."""
    if path.suffix != ".parquet":
        raise InputError(f"--atlas is {path}: expected a name that ends in .parquet")
    require_writable(path)


def write_atlas(index: Index, path: Path, neighbors: int) -> None:
    """Write a row an image, and print the command that shows them."""
    source, pictures = index.split.images, has_pictures(index.split.images)
    schema = pa.schema([*COLUMNS, *([("image", PICTURE)] if pictures else [])])
    values = columns(index, neighbors)

    def write(unfinished: Path) -> None:
        with pq.ParquetWriter(unfinished, schema) as writer:
            for start in range(0, len(values["text"]), ROWS):
                part = {name: one[start : start + ROWS] for name, one in values.items()}
                if pictures:
                    part["image"] = [*thumbnails(source, index, start)]
                writer.write_table(pa.table(part, schema=schema))

    write_file(path, write)
    image = " --image image" if pictures else ""
    print(
        f"{path}: {len(values['text']):,} images. To see them, with `pip install embedding-atlas`:"
    )
    print(f"    embedding-atlas {path} --text text{image} --x x --y y --neighbors neighbors")


def columns(index: Index, neighbors: int) -> dict[str, list[Any]]:
    """All columns but the pictures."""
    found = index.embedded
    count = len(found.images)
    texts: list[list[str]] = [[] for _ in range(count)]
    rows = zip(found.captions_kept.tolist(), found.image_of.tolist(), strict=True)
    for caption, image in rows:
        texts[image].append(index.split.captions[caption])
    x, y = projected(found.images).T.tolist()
    return {
        "text": ["\n".join(one) for one in texts],
        "x": x,
        "y": y,
        "neighbors": nearest(found.images, min(neighbors, count - 1)),
        **hardness(index),
    }


def projected(images: Tensor) -> Tensor:
    """The two principal components of normalised images, ``n x 2``; the same signs every time."""
    rows = F.normalize(images.double(), dim=1)
    rows = rows - rows.mean(dim=0)
    axes = torch.linalg.eigh(rows.T @ rows).eigenvectors[:, -2:].flip(1)
    largest = axes.gather(0, axes.abs().argmax(dim=0, keepdim=True))
    return rows @ (axes * torch.where(largest < 0, -1.0, 1.0))


def nearest(images: Tensor, count: int) -> list[dict[str, list[Any]]]:
    """Each image itself, then the nearest others, with cosine distances."""
    itself = torch.arange(len(images))[:, None]
    if count < 1:
        return [{"ids": [row], "distances": [0.0]} for row in range(len(images))]
    mined = mine(images, images, TopK(count), same_set=True)
    ids = torch.cat([itself, mined.indices], dim=1).tolist()
    distances = torch.cat([torch.zeros(len(images), 1), (1 - mined.scores).clamp(min=0)], dim=1)
    both = zip(ids, distances.tolist(), strict=True)
    return [{"ids": rows, "distances": far} for rows, far in both]


def hardness(index: Index) -> dict[str, list[Any]]:
    """Of each image: the best rank of its captions from 1, the score of that one, and its hardest negative."""
    found, rows = index.embedded, torch.arange(len(index.embedded.images))
    given = found.images, found.captions
    best = ranks(*given, rows, found.image_of, similarity=index.similarity)
    mined = mine(*given, TopK(1), index.similarity, query_ids=rows, candidate_ids=found.image_of)
    score = torch.vmap(lambda image, caption: index.similarity(image[None], caption[None])[0, 0])
    parts = zip(found.image_of.split(ROWS), found.captions.split(ROWS), strict=True)
    scores = torch.cat([score(found.images[own], captions) for own, captions in parts])
    positive = torch.full((len(rows),), -torch.inf)
    positive.scatter_reduce_(0, found.image_of, scores, reduce="amax")
    hardest = [
        index.split.captions[found.captions_kept[row]] if row >= 0 else None
        for row in mined.indices[:, 0].tolist()
    ]
    return {
        "best_rank": (1 + best).tolist(),
        "positive_score": positive.tolist(),
        "negative_score": mined.scores[:, 0].tolist(),
        "hardest_negative": hardest,
    }


def has_pictures(source: ImageSource) -> bool:
    """Whether there is something to see."""
    return not isinstance(source, Features) or bool(source.pictures)


def thumbnails(source: ImageSource, index: Index, start: int) -> Iterator[dict[str, Any] | None]:
    """Small pictures of some images, with the names of those that are files."""
    paths = getattr(source, "pictures" if isinstance(source, Features) else "paths", ())
    for row in index.embedded.images_kept[start : start + ROWS].tolist():
        content = source.thumbnail(row)
        name = paths[row].name if paths else None
        yield None if content is None else {"bytes": content, "path": name}
