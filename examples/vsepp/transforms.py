"""From a picture to the tensor that the network sees."""

from __future__ import annotations

from PIL import Image
from torch import Tensor
from torchvision.transforms import v2

import torch

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def as_tensor() -> v2.Compose:
    """Scale to [0, 1] and centre by ImageNet's statistics."""
    return v2.Compose(
        [v2.ToImage(), v2.ToDtype(torch.float32, scale=True), v2.Normalize(MEAN, STD)]
    )


def random_crop(size: int) -> v2.Compose:
    """The paper's RC: a random resized crop and a mirror image half of the time."""
    return v2.Compose([v2.RandomResizedCrop(size), v2.RandomHorizontalFlip(), as_tensor()])


def centre_crop(size: int) -> v2.Compose:
    """The paper's 1C and its test view: the short side to 8/7 of the crop (256 for 224), then the centre."""
    return v2.Compose([v2.Resize(size * 8 // 7), v2.CenterCrop(size), as_tensor()])


def ten_crops(size: int) -> v2.Compose:
    """The paper's 10C: four corners and the centre, each mirrored too; ``10 x 3 x size x size``."""
    view = as_tensor()

    def stacked(crops: tuple[Image.Image, ...]) -> Tensor:
        return torch.stack([view(crop) for crop in crops])

    return v2.Compose([v2.Resize(size * 8 // 7), v2.TenCrop(size), v2.Lambda(stacked)])
