"""The released layout of precomputed features: ``{train,dev,test}_ims.npy`` and ``*_caps.txt``."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from vsepp.data.captions import Captions, read_captions, read_lines
from vsepp.data.images import Features
from vsepp.data.picture_folder import PictureFolder
from vsepp.data.splits import CAPTIONS_EACH, Split, Splits
from vsepp.errors import InputError, MissingInputError
from vsepp.files.arrays import read_array

DEV_CAPTIONS = 5_000
ROWS_CHECKED_AT_ONCE = 4_000
"""A multiple of five, so that a group of repeated rows stays together."""
LARGEST, SMALLEST = 1e15, 1e-15
"""Features outside these overflow or vanish in float32 when an embedding's length is taken."""
NAMES = ("train", "dev", "test")


def read_precomp(
    folder: Path, pictures: PictureFolder | None = None, mirror: bool = False
) -> Splits:
    """The three splits of a ``*_precomp`` folder; ``pictures`` holds the images that
    ``*_names.txt`` names. With ``mirror`` training reads ``train_ims_flip.npy`` too.
    """
    if not folder.is_dir() and (folder.parent / "train_ims.npy").is_file():
        given = folder.parent
        raise MissingInputError(
            f"{given} holds the features itself, and --data is the folder around it: give "
            f"--data {given.parent} --precomp {given.name}"
        )
    if not folder.is_dir():
        raise MissingInputError(
            f"no folder {folder}: --data is the folder that holds {folder.name}/. Put "
            "{train,dev,test}_ims.npy and {train,dev,test}_caps.txt there, make them from images "
            "with the `features` command, or choose --layout raw"
        )
    captions = {name: read_captions(folder / f"{name}_caps.txt") for name in NAMES}
    arrays = {name: open_features(folder / f"{name}_ims.npy") for name in NAMES}
    check_alike(folder, arrays)
    for name in NAMES:
        check_counts(folder, name, len(arrays[name]), len(captions[name].texts))
    parts = {name: as_split(folder, name, captions[name], arrays[name], pictures) for name in NAMES}
    train = with_mirrored(folder, parts["train"]) if mirror else parts["train"]
    return Splits(train, parts["dev"].first(DEV_CAPTIONS // CAPTIONS_EACH), parts["test"])


def with_mirrored(folder: Path, split: Split) -> Split:
    """The training split with the features of its mirrored images."""
    path, images = folder / "train_ims_flip.npy", split.images
    assert isinstance(images, Features)
    mirrored = read_features(path)
    if len(mirrored) == len(images) * CAPTIONS_EACH:
        mirrored = mirrored[::CAPTIONS_EACH]
    if mirrored.shape != images.array.shape:
        raise InputError(
            f"{path} is {mirrored.shape}, but the training images are {images.array.shape}: "
            "expected the mirrored image of every row"
        )
    return replace(split, images=replace(images, mirrored=mirrored))


def as_split(
    folder: Path, name: str, captions: Captions, array: np.ndarray, pictures: PictureFolder | None
) -> Split:
    """One split. Rows repeated for each caption, as some releases have them, are read once."""
    path = folder / f"{name}_ims.npy"
    notes = [*captions.notes, *check_numbers(path, array)]
    count = len(captions.texts)
    if len(array) == count and count > 1:
        groups = repeated_groups(array)
        if groups * CAPTIONS_EACH == count:
            array = array[::CAPTIONS_EACH]
        elif groups * CAPTIONS_EACH * 2 > count:
            notes.append(
                f"{groups:,} of {count // CAPTIONS_EACH:,} groups of {CAPTIONS_EACH} rows are "
                "repeated, not all: every row counts as an image of its own; is the file damaged?"
            )
    check_variety(path, array)
    image_of = np.arange(count) // (count // len(array))
    shown = named(folder, name, pictures, len(array))
    return Split(Features(array, shown), captions.texts, image_of, str(path), notes=tuple(notes))


def check_alike(folder: Path, arrays: dict[str, np.ndarray]) -> None:
    """Features of all splits come from one network: the same width, and regions in all or none."""
    train = arrays["train"]
    for name, array in arrays.items():
        if (array.ndim, array.shape[-1]) != (train.ndim, train.shape[-1]):
            raise InputError(
                f"{folder / f'{name}_ims.npy'} is {array.shape}, but train_ims.npy {train.shape}: "
                "expected features of one width in every split; extract them with the same network"
            )


def check_counts(folder: Path, name: str, rows: int, captions: int) -> None:
    """Refuse another number of captions than one or five a row."""
    if captions not in (rows, rows * CAPTIONS_EACH):
        raise InputError(
            f"{folder / f'{name}_ims.npy'} has {rows:,} rows and {folder / f'{name}_caps.txt'} "
            f"{captions:,} captions: expected {CAPTIONS_EACH} captions a row, or a row for "
            "each caption; one of the two is incomplete"
        )


def repeated_groups(array: np.ndarray) -> int:
    """How many groups of five rows are one row five times."""
    if len(array) % CAPTIONS_EACH:
        return 0
    count = 0
    for start in range(0, len(array), ROWS_CHECKED_AT_ONCE):
        part = array[start : start + ROWS_CHECKED_AT_ONCE]
        groups = part.reshape(-1, CAPTIONS_EACH, part[0].size)
        count += int((groups == groups[:, :1]).all(axis=(1, 2)).sum())
    return count


def open_features(path: Path) -> np.ndarray:
    """The feature array, memory-mapped; its numbers are not looked at yet."""
    remedy = "copy it again, or extract the features again"
    array = read_array(path, "features", remedy)
    floats = np.issubdtype(array.dtype, np.floating)
    if array.ndim not in (2, 3) or not floats:
        raise InputError(
            f"{path} is {array.dtype} {array.shape}: expected floats, images x width "
            "or images x regions x width"
        )
    return array


def read_features(path: Path) -> np.ndarray:
    """The feature array, memory-mapped and checked for NaN and infinity."""
    array = open_features(path)
    check_numbers(path, array)
    return array


def check_numbers(path: Path, array: np.ndarray) -> list[str]:
    """Refuse numbers that cannot be trained on; note rows of zeros."""
    zero = 0
    for start in range(0, len(array), ROWS_CHECKED_AT_ONCE):
        part = array[start : start + ROWS_CHECKED_AT_ONCE]
        sizes = np.abs(part.reshape(len(part), -1)).max(axis=1).astype(np.longdouble)
        if not (sizes <= LARGEST).all():
            refuse_row(path, array, start + int((~(sizes <= LARGEST)).argmax()))
        zero += int((sizes < SMALLEST).sum())
    if zero == len(array):
        raise InputError(f"{path} holds only zeros: extract the features again")
    return [f"{zero:,} of {len(array):,} rows hold only zeros"] if zero else []


def check_variety(path: Path, array: np.ndarray) -> None:
    """Refuse several images whose features are all the same."""
    starts = range(0, len(array), ROWS_CHECKED_AT_ONCE)
    parts = (array[start : start + ROWS_CHECKED_AT_ONCE] for start in starts)
    if len(array) > 1 and all((part == array[:1]).all() for part in parts):
        raise InputError(
            f"{path} holds the same numbers in all {len(array):,} rows: nothing can be learnt from "
            "them; extract the features again"
        )


def refuse_row(path: Path, array: np.ndarray, row: int) -> None:
    """Say what is wrong with a row: NaN, infinity, or numbers that overflow float32."""
    numbers = np.asarray(array[row])
    bad = int((~np.isfinite(numbers)).sum())
    what = (
        f"holds NaN or infinity ({bad} of {numbers.size} numbers)"
        if bad
        else f"holds numbers as large as {np.abs(numbers).max():.1e}, expected at most {LARGEST:.0e}"
    )
    raise InputError(f"{path}, row {row} {what}: extract the features of that image again")


def named(folder: Path, name: str, pictures: PictureFolder | None, rows: int) -> tuple[Path, ...]:
    """The image files behind the rows, where ``*_names.txt`` and the images are there."""
    names = folder / f"{name}_names.txt"
    if pictures is None or not pictures.folder.is_dir() or not names.is_file():
        return ()
    files = read_lines(names, "names of images", "one a line, in UTF-8")
    if len(files) != rows:
        raise InputError(
            f"{names} has {len(files):,} lines for {rows:,} images: expected a file name for each, "
            "or no such file"
        )
    return tuple(
        pictures.picture(file, f"{names}, line {number}")
        for number, file in enumerate(files, start=1)
    )
