"""Tiny tables of a user's own images and captions."""

import csv
from pathlib import Path

import numpy as np

from tiny_data import caption, write_picture

IMAGES = 30


def own_rows(images: int = IMAGES) -> list[list[object]]:
    """Three captions of an image, of every third only one: its number, a caption."""
    return [
        [image, f"{caption(image, number)} number {image}"]
        for image in range(images)
        for number in range(1 if image % 3 == 0 else 3)
    ]


def own_features(images: int = IMAGES, width: int = 6) -> np.ndarray:
    return np.random.default_rng(0).normal(size=(images, width)).astype(np.float32)


def write_table(path: Path, header: list[str], rows: list[list[object]]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="", encoding="utf-8") as stream:
        csv.writer(stream, delimiter="\t" if path.suffix == ".tsv" else ",").writerows(
            [header, *rows]
        )
    return path


def write_feature_table(folder: Path, images: int = IMAGES) -> Path:
    """``captions.csv`` with ``captions.npy`` beside it."""
    table = write_table(folder / "captions.csv", ["feature", "caption"], own_rows(images))
    np.save(folder / "captions.npy", own_features(images))
    return table


def write_picture_table(folder: Path, images: int = IMAGES) -> Path:
    """``captions.csv`` with pictures in ``images/``."""
    for image in range(images):
        write_picture(folder / "images" / f"{image}.png", image, side=24)
    rows = [[f"{image}.png", said] for image, said in own_rows(images)]
    return write_table(folder / "captions.csv", ["image", "caption"], rows)
