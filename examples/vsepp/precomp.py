"""The released layout of precomputed features: ``{train,dev,test}_ims.npy`` and ``*_caps.txt``."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from vsepp.images import Features
from vsepp.splits import CAPTIONS_EACH, Split, Splits

DEV_CAPTIONS = 5_000
ROWS_CHECKED_AT_ONCE = 4_096


def read_precomp(folder: Path, pictures: Path | None = None) -> Splits:
    """The three splits of a ``*_precomp`` folder; ``pictures`` holds the images that
    ``*_names.txt`` names.
    """
    if not folder.is_dir():
        raise FileNotFoundError(
            f"no folder {folder}: --data is the folder that holds {folder.name}/. Put "
            "{train,dev,test}_ims.npy and {train,dev,test}_caps.txt there, make them from images "
            "with the `features` command, or choose --layout raw"
        )
    dev = read_precomp_split(folder, "dev", pictures)
    return Splits(
        train=read_precomp_split(folder, "train", pictures),
        dev=dev.first(DEV_CAPTIONS // CAPTIONS_EACH),
        test=read_precomp_split(folder, "test", pictures),
    )


def read_precomp_split(folder: Path, name: str, pictures: Path | None = None) -> Split:
    """One split. Rows repeated for each caption, as some releases have them, are read once."""
    captions = read_captions(folder / f"{name}_caps.txt")
    array = read_features(folder / f"{name}_ims.npy")
    where = str(folder / f"{name}_ims.npy")
    if len(array) == len(captions) and repeats_rows(array):
        array = array[::CAPTIONS_EACH]
    if len(array) == len(captions):
        image_of = np.arange(len(captions))
    elif len(array) * CAPTIONS_EACH == len(captions):
        image_of = np.arange(len(captions)) // CAPTIONS_EACH
    else:
        raise ValueError(
            f"{where} has {len(array):,} rows and {folder / f'{name}_caps.txt'} "
            f"{len(captions):,} captions: expected {CAPTIONS_EACH} captions a row, or a row for "
            "each caption; one of the two is incomplete"
        )
    shown = named(folder, name, pictures, len(array))
    return Split(Features(array, shown), captions, image_of, where)


def repeats_rows(array: np.ndarray) -> bool:
    """Whether every row stands five times in a row."""
    if len(array) % CAPTIONS_EACH:
        return False
    groups = array.reshape(-1, CAPTIONS_EACH, *array.shape[1:])
    return all(
        bool((part == part[:, :1]).all())
        for part in np.array_split(groups, -(-len(groups) // ROWS_CHECKED_AT_ONCE))
    )


def read_captions(path: Path) -> tuple[str, ...]:
    """One caption a line, UTF-8. Says which line is at fault."""
    if not path.is_file():
        raise FileNotFoundError(f"no captions at {path}: one caption a line, in UTF-8")
    lines = path.read_bytes().split(b"\n")
    if lines[-1].strip() == b"":
        lines.pop()
    captions = []
    for number, line in enumerate(lines, start=1):
        try:
            caption = line.decode("utf-8").strip()
        except UnicodeDecodeError as error:
            raise ValueError(
                f"{path}, line {number}: byte {error.start + 1} is not UTF-8 ({error.reason}): "
                "convert the file (iconv -t UTF-8), or mend the line"
            ) from error
        if not caption:
            raise ValueError(
                f"{path}, line {number}: the caption is empty: write one; removing the line "
                "would shift every caption after it to another image"
            )
        captions.append(caption)
    return tuple(captions)


def read_features(path: Path) -> np.ndarray:
    """The feature array, memory-mapped and checked for NaN and infinity."""
    if not path.is_file():
        raise FileNotFoundError(f"no features at {path}: an array of one row an image (numpy .npy)")
    try:
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    except (ValueError, EOFError, OSError) as error:
        raise ValueError(
            f"{path} cannot be read ({error}): it is truncated or no .npy file; copy it again"
        ) from error
    if array.ndim not in (2, 3) or not np.issubdtype(array.dtype, np.floating) or not len(array):
        raise ValueError(
            f"{path} is {array.dtype} {array.shape}: expected floats, images x width "
            "or images x regions x width"
        )
    for start in range(0, len(array), ROWS_CHECKED_AT_ONCE):
        bad = ~np.isfinite(array[start : start + ROWS_CHECKED_AT_ONCE]).reshape(-1, array[0].size)
        if bad.any():
            row = start + int(bad.any(axis=1).argmax())
            raise ValueError(
                f"{path}, row {row} holds NaN or infinity ({int(bad[row - start].sum())} of "
                f"{array[0].size} numbers): extract the features of that image again"
            )
    return array


def named(folder: Path, name: str, pictures: Path | None, rows: int) -> tuple[Path, ...]:
    """The image files behind the rows, where ``*_names.txt`` and the images are there."""
    names = folder / f"{name}_names.txt"
    if pictures is None or not pictures.is_dir() or not names.is_file():
        return ()
    files = names.read_text(encoding="utf-8").splitlines()
    if len(files) != rows:
        raise ValueError(
            f"{names} has {len(files):,} lines for {rows:,} images: expected a file name for each, "
            "or no such file"
        )
    return tuple(pictures / file for file in files)
