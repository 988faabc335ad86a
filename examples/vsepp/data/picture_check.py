"""Look at every picture before anything is computed: a broken one is told at the start, not after
hours.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

from tqdm import tqdm

from vsepp.data.images import Photographs
from vsepp.data.picture_decoding import UndecodableError, decode, without_warnings
from vsepp.data.splits import Split, Splits

CHECKED_AT = (32, 32)
"""A JPEG is decoded at about this size: all of its data is read, but few pixels are computed."""
SHOWN_FROM = 2_000
"""Fewer pictures take a moment, without a progress bar."""


def check_pictures(splits: Splits, quiet: bool = False) -> Splits:
    """The splits, with a note of the pictures that cannot be decoded where ``--skip-corrupt``
    leaves them out; an error without it, or if a split has no other.
    """
    names = ("train", "dev", "test")
    checked = check_each([getattr(splits, name) for name in names], quiet)
    return Splits(**dict(zip(names, checked, strict=True)))


def check_each(parts: Sequence[Split], quiet: bool = False) -> list[Split]:
    """The same for some splits; each picture is looked at once."""
    paths = {path for part in parts for path in pictures_of(part)}
    broken = find_broken(sorted(paths, key=str), quiet)
    return [told(part, broken) for part in parts]


def pictures_of(split: Split) -> tuple[Path, ...]:
    """The files that a split's images are decoded from."""
    return split.images.paths if isinstance(split.images, Photographs) else ()


def find_broken(paths: list[Path], quiet: bool) -> dict[Path, UndecodableError]:
    """The pictures that cannot be decoded. Pillow works outside Python's lock: threads help."""
    with without_warnings(), ThreadPoolExecutor(os.cpu_count()) as pool:
        found = pool.map(fault_of, paths)
        hidden = True if quiet or len(paths) < SHOWN_FROM else None  # None: only on a terminal
        bar = tqdm(found, "looking at the pictures", len(paths), leave=False, disable=hidden)
        return {path: one for path, one in zip(paths, bar, strict=True) if one is not None}


def fault_of(path: Path) -> UndecodableError | None:
    """What is wrong with a picture, if anything is."""
    try:
        decode(path, CHECKED_AT)
    except UndecodableError as error:
        return error
    return None


def told(split: Split, broken: dict[Path, UndecodableError]) -> Split:
    """The split with a note of its broken pictures; an error where they are too many."""
    paths = pictures_of(split)
    faults = [broken[path] for path in paths if path in broken]
    if not faults:
        return split
    count = f"{len(faults):,} of {len(paths):,} pictures of {split.where} cannot be decoded"
    first = str(faults[0]).partition(": fetch it again")[0]
    if len(faults) == len(paths):
        raise UndecodableError(f"{first}; {count}: expected some that can; fetch them again")
    if not split.images.skip_corrupt:
        raise UndecodableError(f"{faults[0]} ({count})")
    note = f"{count} and are left out; the first: {first}"
    return replace(split, notes=(*split.notes, note))
