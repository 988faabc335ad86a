"""From a picture to the tensor that the network sees."""

from __future__ import annotations

import torch

try:
    from torchvision.transforms import v2
except ModuleNotFoundError as error:
    raise ModuleNotFoundError(
        "raw images need torchvision: pip install -e '.[vsepp]' in the checkout"
    ) from error

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def as_tensor() -> v2.Compose:
    """Scale to [0, 1] and centre by ImageNet's statistics."""
    return v2.Compose(
        [v2.ToImage(), v2.ToDtype(torch.float32, scale=True), v2.Normalize(MEAN, STD)]
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
    return v2.Compose([v2.Resize(size * 8 // 7), v2.CenterCrop(size), as_tensor()])


def ten_crops(size: int) -> v2.Compose:
    """The paper's 10C: four corners and the centre, each mirrored too; ``10 x 3 x size x size``."""
    return v2.Compose([v2.Resize(size * 8 // 7), as_tensor(), v2.TenCrop(size), torch.stack])
