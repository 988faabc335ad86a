"""What tells a model and its data from others: a SHA-256 of each."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from vsepp.data.images import Features, Photographs
from vsepp.data.scenes import Drawings
from vsepp.data.splits import ImageSource, Split

ROWS = 4_096


def of_files(paths: Sequence[Path]) -> str:
    """Of the content of some files."""
    whole = hashlib.sha256()
    for path in paths:
        with path.open("rb") as stream:
            whole.update(hashlib.file_digest(stream, "sha256").digest())
    return whole.hexdigest()


def of_data(split: Split) -> str:
    """Of a split's captions and images; of pictures in files of their own, their names,
    sizes and times.
    """
    whole = hashlib.sha256(json.dumps(split.captions).encode())
    whole.update(np.ascontiguousarray(split.image_of, np.int64).tobytes())
    add_images(whole, split.images)
    return whole.hexdigest()


def add_images(whole: hashlib._Hash, images: ImageSource) -> None:
    """Add the images to a hash."""
    if isinstance(images, Photographs):
        whole.update(repr(images.skip_corrupt).encode())
        for path in images.paths:
            if isinstance(path, Path):
                there = path.stat()
                whole.update(repr((str(path), there.st_size, there.st_mtime_ns)).encode())
            else:  # in a table
                whole.update(hashlib.sha256(path.read_bytes()).digest())
        return
    assert isinstance(images, Features | Drawings)
    array = images.array if isinstance(images, Features) else images.pictures.numpy()
    whole.update(repr((array.shape, array.dtype.str)).encode())
    for start in range(0, len(array), ROWS):
        whole.update(np.ascontiguousarray(array[start : start + ROWS]))
