"""Images divided into train, dev and test, the same way for everyone with a seed."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

from vsepp.data.own.images import OwnImage
from vsepp.errors import InputError
from vsepp.settings import Data

Parts = dict[str, list[OwnImage]]


def divided(images: Sequence[OwnImage], data: Data, where: str) -> tuple[Parts, list[str]]:
    """The images of each part, and notes of what was drawn.

    A part that no row names is drawn from the training images. Which ones depends on the seed and on the
    images' names (or features) alone, not on the order of rows.
    """
    named = [image.split for image in images]
    if any(named) and "train" not in named:
        raise InputError(
            f"{where} has no row of split train: it has {', '.join(sorted(set(named)))}"
        )
    parts: Parts = {name: [] for name in ("train", "dev", "test")}
    for image in images:
        parts[image.split or "train"].append(image)
    count, notes = len(parts["train"]), []
    order = sorted(parts["train"], key=lambda image: place_in_order(data.split_seed, image.key))
    for name, share in (("dev", data.dev_share), ("test", data.test_share)):
        if not parts[name]:
            drawn = max(1, round(share * count))
            parts[name], order = order[:drawn], order[drawn:]
            notes.append(f"{name} is {drawn:,} of {count:,} images, drawn with --split-seed")
    if not order:
        raise InputError(
            f"{where} has {count:,} images to draw dev and test from, which leaves none to train "
            "on: lower --dev-share and --test-share, or add images"
        )
    taken = {image.key for name in ("dev", "test") for image in parts[name]}
    parts["train"] = [image for image in parts["train"] if image.key not in taken]
    return {name: in_order(part, images) for name, part in parts.items()}, notes


def in_order(part: Sequence[OwnImage], images: Sequence[OwnImage]) -> list[OwnImage]:
    """A part in the order of the tables."""
    keys = {image.key for image in part}
    return [image for image in images if image.key in keys]


def place_in_order(seed: int, key: str) -> bytes:
    """Where a seed puts an image: the same on every machine and in every version."""
    return hashlib.sha256(f"{seed}:{key}".encode()).digest()
