"""Where images come from: rows of an array, or files decoded on demand."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import repeat
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from vsepp.data.picture_decoding import UndecodableError, decode, shrunk, without_warnings
from vsepp.data.picture_folder import like_named
from vsepp.data.splits import THUMBNAIL_SIDE, ImageSource
from vsepp.errors import MissingInputError

View = Callable[[Image.Image], Tensor]


@dataclass(frozen=True)
class Features:
    """Precomputed features, ``rows x width`` or ``rows x regions x width``, maybe memory-mapped.

    ``pictures`` are files that show the same images, for the report's gallery. ``mirrored`` are
    the features of the mirrored images, which the training view is half of the time.
    """

    array: np.ndarray
    pictures: tuple[Path, ...] = ()
    mirrored: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.array)

    def batch(self, rows: Sequence[int], seeds: Iterable[int] | None) -> tuple[Tensor, list[int]]:
        """The features of these rows as float32; only mirroring is random."""
        chosen = self.array[np.asarray(rows)].astype(np.float32)
        if self.mirrored is not None and seeds is not None:
            turned = np.fromiter((seed % 2 == 1 for seed in seeds), bool, len(rows))
            chosen[turned] = self.mirrored[np.asarray(rows)[turned]]
        return torch.from_numpy(chosen), [*range(len(rows))]

    def first(self, count: int) -> Features:
        """The first ``count`` rows."""
        mirrored = None if self.mirrored is None else self.mirrored[:count]
        return Features(self.array[:count], self.pictures[:count], mirrored)

    def thumbnail(self, row: int, side: int = THUMBNAIL_SIDE) -> bytes | None:
        """The picture behind the features, where its file is there and whole."""
        return thumbnail(self.pictures[row], side) if self.pictures else None


@dataclass(frozen=True)
class Photographs:
    """Image files; ``train_view`` may draw random numbers, ``test_view`` may not."""

    paths: tuple[Path, ...]
    train_view: View
    test_view: View
    skip_corrupt: bool = False

    def __post_init__(self) -> None:
        missing = [path for path in self.paths if not there(path)]
        if missing:
            raise MissingInputError(
                f"{len(missing):,} of {len(self.paths):,} images are missing, the first is "
                f"{missing[0]}{like_named(missing[0])}: "
                "unpack the images there, or point --data (of your own: --images) at the folder that holds "
                "them"
            )

    def __len__(self) -> int:
        return len(self.paths)

    def batch(self, rows: Sequence[int], seeds: Iterable[int] | None) -> tuple[Tensor, list[int]]:
        """Decode these rows; with ``skip_corrupt``, leave out what cannot be decoded."""
        views, kept = [], []
        given = repeat(None, len(rows)) if seeds is None else seeds
        wanted = zip(rows, given, strict=True)
        with without_warnings():
            for position, (row, seed) in enumerate(wanted):
                picture = self.decode(self.paths[row])
                if picture is not None:
                    views.append(self.view(picture, seed))
                    kept.append(position)
        return (torch.stack(views) if views else torch.empty(0)), kept

    def view(self, picture: Image.Image, seed: int | None) -> Tensor:
        """The test view, or the training view that this seed draws; torch's own generator is
        left alone.
        """
        if seed is None:
            return self.test_view(picture)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            return self.train_view(picture)

    def decode(self, path: Path) -> Image.Image | None:
        """The picture in RGB; None if it is corrupt and that is to be skipped."""
        try:
            return decode(path)
        except UndecodableError:
            if self.skip_corrupt:
                return None
            raise

    def first(self, count: int) -> Photographs:
        """The first ``count`` files."""
        return Photographs(self.paths[:count], self.train_view, self.test_view, self.skip_corrupt)

    def thumbnail(self, row: int, side: int = THUMBNAIL_SIDE) -> bytes | None:
        """The picture, small."""
        return thumbnail(self.paths[row], side)


def there(path: Path) -> bool:
    """Whether a picture is there; names that no file can have are of none."""
    try:
        return path.is_file()
    except OSError:
        return False


def feature_width(source: ImageSource) -> int | None:
    """The width of precomputed features; None for pictures."""
    return source.array.shape[-1] if isinstance(source, Features) else None


def thumbnail(path: Path, side: int) -> bytes | None:
    """A picture as a small JPEG; None where it is missing or broken."""
    try:
        with without_warnings():
            return shrunk(decode(path), side)
    except UndecodableError:
        return None
