"""From a picture to the tensor that the network sees."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from hardneg.image_text.pictures import IMAGENET_MEAN, IMAGENET_STD, PictureView

try:
    from torchvision.transforms import v2
except ModuleNotFoundError as error:
    raise ModuleNotFoundError(
        "raw images need torchvision: pip install -e '.[vsepp]' in the checkout"
    ) from error

Scale = Sequence[float]


def as_tensor(mean: Scale, std: Scale) -> v2.Compose:
    """Scale to [0, 1] and centre by the statistics of the colours."""
    return v2.Compose(
        [v2.ToImage(), v2.ToDtype(torch.float32, scale=True), v2.Normalize(mean, std)]
    )


def views(
    crop: str, size: int, mean: Scale = IMAGENET_MEAN, std: Scale = IMAGENET_STD
) -> tuple[v2.Compose, v2.Compose]:
    """The views of training and of testing: random crops (rc) are tested on the centre crop.

    The centre crop (1c) takes the short side to 8/7 of the crop (256 for 224); ten crops (10c) are four
    corners and the centre, each mirrored too: ``10 x 3 x size x size``.
    """
    kind = "ten" if crop == "10c" else "centre"
    testing = PictureView(size, kind, tuple(mean), tuple(std)).transform()
    return (random_crop(size, mean, std) if crop == "rc" else testing), testing


def random_crop(size: int, mean: Scale, std: Scale) -> v2.Compose:
    """The paper's RC: a random resized crop and a mirror image half of the time."""
    return v2.Compose([v2.RandomResizedCrop(size), v2.RandomHorizontalFlip(), as_tensor(mean, std)])
