"""A user's own data as splits."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from vsepp.data.images import Features, Photographs
from vsepp.data.own.division import divided
from vsepp.data.own.feature_rows import feature_array
from vsepp.data.own.images import OwnImage, read_images
from vsepp.data.own.pictures import paths_of
from vsepp.data.own.places import existing, features_beside, read_tables
from vsepp.data.splits import ImageSource, Split, Splits
from vsepp.errors import InputError
from vsepp.settings import Data

Source = Callable[[str, Sequence[OwnImage]], ImageSource]


def read_own(data: Data, root: Path | None) -> Splits:
    """The splits of a table or a folder."""
    for option in ("mirror", "restval"):
        if getattr(data, option):
            raise InputError(f"--{option} is for other data sets: your own have no such images")
    place = existing(root)
    images = read_images(read_tables(place), data)
    parts, notes = divided(images, data, str(place))
    with_features = {image.feature is not None for image in images}
    if len(with_features) > 1:
        raise InputError(
            f"{place}: some tables hold features and some do not: expected all or none"
        )
    if True in with_features:
        source, more = source_of_features(images, data, place)
    else:
        source, more = source_of_pictures(data), []
    splits = {name: as_split(part, source(name, part), f"{place} ({name})")
              for name, part in parts.items()}  # fmt: skip
    splits["train"] = replace(splits["train"], notes=(*notes, *more))
    return Splits(**splits)


def source_of_features(
    images: Sequence[OwnImage], data: Data, place: Path
) -> tuple[Source, list[str]]:
    """What gives a part its features, and notes about them."""
    features = [image.feature for image in images if image.feature is not None]
    places = [image.place for image in images]
    array, rows, notes = feature_array(features, places, features_beside(place, data))
    row_of = {image.key: row for image, row in zip(images, rows, strict=True)}

    def source(name: str, part: Sequence[OwnImage]) -> ImageSource:
        chosen = array[np.array([row_of[image.key] for image in part])]
        return Features(chosen, paths_of([image.picture.file for image in part]))

    return source, notes


def source_of_pictures(data: Data) -> Source:
    """What gives a part its pictures; only they need torchvision."""
    from vsepp.data.transforms import views

    train_view, test_view = views(data.crop, data.image_size, *data.colour_scale())

    def source(name: str, part: Sequence[OwnImage]) -> ImageSource:
        files = tuple(image.picture.file for image in part if image.picture.file is not None)
        view = train_view if name == "train" else test_view
        return Photographs(files, view, test_view, data.skip_corrupt)

    return source


def as_split(part: Sequence[OwnImage], images: ImageSource, where: str) -> Split:
    """A part as images with their captions."""
    captions = tuple(caption for image in part for caption in image.captions)
    image_of = np.repeat(np.arange(len(part)), [len(image.captions) for image in part])
    return Split(images, captions, image_of, where)
