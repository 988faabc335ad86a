"""What a run notes of its data by itself: the content of a user's own, a timm network's view of pictures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from hardneg.encoders.networks import TIMM, timm_view
from vsepp.data.own.places import digest, existing
from vsepp.settings import Data


def noted(data: Data, place: Path | None, backbone: str, given: Sequence[str]) -> Data:
    """The settings of the data with what follows from files and from the network.

    A timm network sees pictures of its own size, unless the command line ``given`` names one.
    """
    if data.dataset == "own":
        data = replace(data, digest=digest(existing(place), data))
    pictures = data.layout == "raw" or data.dataset == "own"
    if backbone.startswith(TIMM) and pictures and data.dataset != "scenes":
        view = timm_view(backbone.removeprefix(TIMM))
        colours = " ".join(str(one) for one in (*view.mean, *view.std))
        data = replace(data, colours=colours)
        if not any(one.partition("=")[0] == "--image-size" for one in given):
            data = replace(data, image_size=view.size)
    return data
