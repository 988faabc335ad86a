"""English and German captions of Multi30k's second task as bags of hashed words and parts of words; none repeated."""

from __future__ import annotations

import gzip
import re
import zlib
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

LANGUAGES = ("en", "de")
SPLITS = {"test": "test_2016", "validation": "val", "training": "train"}
"""Names of the files; a caption is kept in the first of these splits that has it."""
CAPTIONS, BUCKETS, PART = 5, 1 << 14, 4

Words = tuple[str, ...]


def words_of(text: str) -> Words:
    """Lower-case words, without punctuation."""
    return tuple(re.findall(r"\w+", text.lower()))


@cache
def buckets_of(word: str) -> list[int]:
    """A word and its parts of four letters, hashed."""
    whole = f"<{word}>"
    parts = [whole[i : i + PART] for i in range(len(whole) - PART + 1)]
    return [zlib.crc32(x.encode()) % BUCKETS for x in dict.fromkeys([whole, *parts])]


class Bags:
    """Captions as lists of buckets, one behind the other; ``bags[rows]`` is what ``EmbeddingBag`` takes."""

    def __init__(self, captions: list[Words]) -> None:
        lists = [[bucket for word in words for bucket in buckets_of(word)] for words in captions]
        self.lengths = torch.tensor([len(x) for x in lists])
        self.starts = self.lengths.cumsum(0) - self.lengths
        self.buckets = torch.from_numpy(np.concatenate(lists))

    def __len__(self) -> int:
        return len(self.lengths)

    def __getitem__(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        lengths = self.lengths[rows]
        offsets = lengths.cumsum(0) - lengths
        moved = (self.starts[rows] - offsets).repeat_interleave(lengths)
        return self.buckets[torch.arange(len(moved)) + moved], offsets


@dataclass(frozen=True)
class Captions:
    """The captions of one language and split.

    Attributes:
        bags: their buckets.
        images: the number of each caption's image; captions of one image stand together.
    """

    bags: Bags
    images: Tensor

    def one_of(self, images: Tensor) -> Tensor:
        """A random caption of each image, as row numbers."""
        counts = torch.bincount(self.images)
        starts = counts.cumsum(0) - counts
        drawn = torch.rand(len(images), dtype=torch.float64) * counts[images]
        return starts[images] + drawn.long()


Split = dict[str, Captions]


def without_repeats(images: Iterable[list[str]], seen: set[Words]) -> list[list[Words]]:
    """Captions of every image whose words were not seen before."""
    kept: list[list[Words]] = []
    for texts in images:
        kept.append([])
        for words in map(words_of, texts):
            if words and words not in seen:
                seen.add(words)
                kept[-1].append(words)
    return kept


def read(folder: Path, split: str, language: str) -> list[list[str]]:
    """Five captions of every image."""
    files = [folder / f"{SPLITS[split]}.{i + 1}.{language}.gz" for i in range(CAPTIONS)]
    columns = [gzip.decompress(path.read_bytes()).decode().splitlines() for path in files]
    return [list(texts) for texts in zip(*columns, strict=True)]


def both(english: list[list[Words]], german: list[list[Words]]) -> Split:
    """The images that have a caption in both languages, numbered anew."""
    pairs = [(en, de) for en, de in zip(english, german, strict=True) if en and de]
    found = {}
    for language, side in zip(LANGUAGES, zip(*pairs, strict=True), strict=True):
        counts = torch.tensor([len(texts) for texts in side])
        images = torch.arange(len(side)).repeat_interleave(counts)
        found[language] = Captions(Bags([words for texts in side for words in texts]), images)
    return found


def splits(folder: Path) -> dict[str, Split]:
    """All three; no caption is twice in a language, and so none of training in validation or test."""
    seen: dict[str, set[Words]] = {language: set() for language in LANGUAGES}
    return {
        split: both(
            *(without_repeats(read(folder, split, x), seen[x]) for x in LANGUAGES),
        )
        for split in SPLITS
    }
