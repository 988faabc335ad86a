"""One part of a data set: images, captions, and which image each caption describes."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
from torch import Tensor

from vsepp.errors import InputError

CAPTIONS_EACH = 5
THUMBNAIL_SIDE = 128


class ImageSource(Protocol):
    """Images by row: features in memory, files on disk, drawings."""

    def __len__(self) -> int:
        """How many images there are."""

    def batch(self, rows: Sequence[int], seeds: Iterable[int] | None) -> tuple[Tensor, list[int]]:
        """The images of these rows, stacked, and which of the rows (by position) could be read.

        ``seeds`` (one a row) ask for the training view, whose random crop depends on the seed
        alone; without them it is the test view.
        """

    def first(self, count: int) -> ImageSource:
        """The first ``count`` images."""

    def thumbnail(self, row: int, side: int = THUMBNAIL_SIDE) -> bytes | None:
        """A small JPEG or PNG for people to look at, where there is a picture; at most ``side`` pixels
        wide and high, drawings as they are.
        """


@dataclass(frozen=True)
class Split:
    """Images and captions; ``image_of[j]`` is the row of the image that caption j describes.

    ``image_keys`` and ``caption_keys`` are the data set's own numbers, where it has any (COCO).
    """

    images: ImageSource
    captions: tuple[str, ...]
    image_of: np.ndarray
    where: str
    image_keys: tuple[int, ...] = ()
    caption_keys: tuple[int, ...] = ()
    notes: tuple[str, ...] = ()
    """What there is to say about how the files were read: captions cut, images left out."""

    def __post_init__(self) -> None:
        for number, caption in enumerate(self.captions):
            fault = fault_of(caption)
            if fault:
                raise InputError(
                    f"{self.where}: caption {number + 1} (of image {self.image_of[number] + 1}) "
                    f"{fault}"
                )
        if not self.captions:
            raise InputError(f"{self.where} holds no captions: is it complete?")

    def first(self, count: int) -> Split:
        """The first ``count`` images with their captions; all of them if there are fewer."""
        if count <= 0 or count >= len(self.images):
            return self
        kept = np.flatnonzero(self.image_of < count)
        return replace(
            self,
            images=self.images.first(count),
            captions=tuple(self.captions[j] for j in kept),
            image_of=self.image_of[kept],
            image_keys=self.image_keys[:count],
            caption_keys=tuple(self.caption_keys[j] for j in kept) if self.caption_keys else (),
        )

    def __str__(self) -> str:
        counts = f"{len(self.images):,} images, {len(self.captions):,} captions from {self.where}"
        return "; ".join([counts, *self.notes])


def fault_of(caption: str) -> str:
    """What is wrong with a caption; empty if nothing is."""
    if not caption.strip():
        return "is empty: write one, or remove the image with its captions"
    try:
        caption.encode("utf-8")
    except UnicodeEncodeError as error:
        half = ascii(caption[error.start])
        return f"holds half of a character ({half}), which cannot be written: mend it"
    return ""


@dataclass(frozen=True)
class Splits:
    """The three parts of a data set."""

    train: Split
    dev: Split
    test: Split
