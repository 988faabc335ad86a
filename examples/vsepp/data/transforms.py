"""From a picture to the tensor that the network sees."""

from __future__ import annotations

import torch

from hardneg.image_text.pictures import IMAGENET_MEAN, IMAGENET_STD, PictureView

try:
    from torchvision.transforms import v2
except ModuleNotFoundError as error:
    raise ModuleNotFoundError(
        "raw images need torchvision: pip install -e '.[vsepp]' in the checkout"
    ) from error


def as_tensor() -> v2.Compose:
    """Scale to [0, 1] and centre by ImageNet's statistics."""
    return v2.Compose(
        [
            v2.ToImage(),
            v2.ToDtype(torch.float32, scale=True),
            v2.Normalize(IMAGENET_MEAN, IMAGENET_STD),
        ]
    )


def views(crop: str, size: int) -> tuple[v2.Compose, v2.Compose]:
    """The views of training and of testing: random crops (rc) are tested on the centre crop."""
    training = {"rc": random_crop, "1c": centre_crop, "10c": ten_crops}[crop](size)
    return training, ten_crops(size) if crop == "10c" else centre_crop(size)


def random_crop(size: int) -> v2.Compose:
    """The paper's RC: a random resized crop and a mirror image half of the time."""
    return v2.Compose([v2.RandomResizedCrop(size), v2.RandomHorizontalFlip(), as_tensor()])


def centre_crop(size: int) -> v2.Compose:
    """The paper's 1C and its test view: the short side to 8/7 of the crop (256 for 224), then
    the centre.
    """
    return PictureView(size).transform()


def ten_crops(size: int) -> v2.Compose:
    """The paper's 10C: four corners and the centre, each mirrored too; ``10 x 3 x size x size``."""
    return PictureView(size, "ten").transform()
