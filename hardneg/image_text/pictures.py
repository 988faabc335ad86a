"""From pictures to the tensors that an image network sees."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from hardneg.image_text.records import check_number, check_word

__all__ = ["IMAGENET_MEAN", "IMAGENET_STD", "PictureView", "checked_pictures"]

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
SIZES = (8, 2_048)
CROPS = ("centre", "ten", "whole")


@dataclass(frozen=True)
class PictureView:
    """How a model looks at a picture when it is not trained.

    Args:
        size: the side of the square that the network sees.
        crop: ``"centre"`` scales the short side to 8/7 of the size and cuts out the centre (256 for 224);
            ``"ten"`` cuts out four corners and the centre, each mirrored too; ``"whole"`` scales both sides.
        mean, std: what is taken off each colour, and what it is divided by, of values in [0, 1].
    """

    size: int = 224
    crop: str = "centre"
    mean: tuple[float, ...] = IMAGENET_MEAN
    std: tuple[float, ...] = IMAGENET_STD

    def __post_init__(self) -> None:
        check_number("size", self.size, *SIZES)
        check_word("crop", self.crop, CROPS)
        for name in ("mean", "std"):
            colours = getattr(self, name)
            if not isinstance(colours, list | tuple) or len(colours) != 3:
                raise ValueError(f"{name} is {colours!r:.60}: expected a number for each colour")
            for one in colours:
                check_number(name, one, 1e-6 if name == "std" else -1e6, 1e6, float)
            object.__setattr__(self, name, tuple(colours))

    def transform(self) -> Any:
        """A torchvision transform from a PIL picture to ``3 x size x size``, or ``10 x 3 x size x size``.

        Raises:
            ModuleNotFoundError: without torchvision.
        """
        v2 = transforms()
        tensor = [
            v2.ToImage(),
            v2.ToDtype(torch.float32, scale=True),
            v2.Normalize(self.mean, self.std),
        ]
        short_side = v2.Resize(self.size * 8 // 7)
        if self.crop == "ten":
            return v2.Compose([short_side, *tensor, v2.TenCrop(self.size), torch.stack])
        if self.crop == "whole":
            return v2.Compose([v2.Resize((self.size, self.size)), *tensor])
        return v2.Compose([short_side, v2.CenterCrop(self.size), *tensor])


def checked_pictures(pictures: Any) -> list[Any]:
    """PIL pictures as a list.

    Raises:
        TypeError: for a single picture, for paths, and for anything else.
    """
    several = isinstance(pictures, Sequence) and not isinstance(pictures, str | bytes)
    listed = [*pictures] if several else [pictures]
    if not several or not all(hasattr(one, "convert") for one in listed):
        kinds = ", ".join(sorted({type(one).__name__ for one in listed}))
        raise TypeError(
            f"pictures are {f'a list of {kinds}' if several else f'a single {kinds}'}: expected a list of PIL "
            "pictures, as [PIL.Image.open(path)]"
        )
    return listed


def transforms() -> Any:
    """torchvision's transforms, or an error that says how to install it."""
    try:
        return importlib.import_module("torchvision.transforms.v2")
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            "pictures need torchvision: pip install 'hardneg[serving]'"
        ) from error
