"""The images that the rows of tables name, each once with all of its captions."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from vsepp.data.own.columns import captions_of, column_named, required_column, splits_of
from vsepp.data.own.feature_rows import Feature, feature_key, features_of
from vsepp.data.own.pictures import Picture, pictures_of
from vsepp.data.own.tables import Table
from vsepp.errors import InputError
from vsepp.settings import Data


@dataclass
class OwnImage:
    """An image: a picture, a row of features or both. ``split`` is empty where no row names one."""

    picture: Picture
    feature: Feature | None
    split: str
    captions: list[str]
    place: str

    @property
    def key(self) -> str:
        """What tells the image from all others."""
        return self.picture.key


def read_images(tables: Sequence[Table], data: Data) -> list[OwnImage]:
    """The images of some tables, in order of appearance."""
    found: dict[str, OwnImage] = {}
    for table in tables:
        for image in rows_of(table, data):
            known = found.setdefault(image.key, image)
            if known is not image:
                check_same(known, image)
                known.captions += image.captions
    if not found:
        raise InputError(f"{tables[0].where} holds no rows: is it complete?")
    return [*found.values()]


def rows_of(table: Table, data: Data) -> Iterator[OwnImage]:
    """A row at a time, as an image with the row's captions."""
    said = table.column(required_column(table, "caption", data))
    splits = splits_of(table, data, len(said))
    feature = column_named(table, "feature", data)
    features: Sequence[Feature | None] = [None] * len(said)
    if feature:
        features = features_of(table, feature)
    named = column_named(table, "image", data) if feature else required_column(table, "image", data)
    if named:
        pictures = pictures_of(table, named, data, optional=bool(feature))
    else:
        pictures = [Picture(feature_key(one)) for one in features if one is not None]
    for row, caption in enumerate(said):
        captions, place = captions_of(caption, table.place(row)), table.place(row)
        yield OwnImage(pictures[row], features[row], splits[row], captions, place)


def check_same(known: OwnImage, image: OwnImage) -> None:
    """Refuse rows that say different things of one image."""
    if known.split != image.split:
        raise InputError(
            f"{image.place}: the image {image.key!r:.80} is in {image.split}, and in {known.split} "
            f"at {known.place}: expected all captions of an image in one split"
        )
    same = np.array_equal(known.feature, image.feature, equal_nan=known.feature is not None)
    if not same:
        raise InputError(
            f"{image.place}: the image {image.key!r:.80} has other features than at {known.place}: "
            "expected one row of features for each image"
        )
