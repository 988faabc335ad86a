"""What ``search.py`` takes on the command line; tyro makes the options and their help from this."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro

from vsepp.settings.ranges import Range, check_options

MOST_SHOWN = 48


@dataclass(frozen=True)
class Search:
    """Look through what a trained model finds, in the browser: sentences, images, hard negatives."""

    runs: Annotated[tuple[Path, ...], tyro.conf.Positional]
    """One model, or two to see side by side: a run's folder, a .pt file, the authors' *.pth.tar, or an
    exported folder.
    """
    data: Path | None = None
    """The folder of the data sets, as for training; of your own, and of an exported folder: the table.
    Without it, what the run was trained with.
    """
    images: str | None = None
    """The folder of the photographs: where own pictures are now, or those that {train,dev,test}_names.txt
    names beside precomputed features.
    """
    features: str | None = None
    """Own data: where the array of features is now."""
    precomp: str | None = None
    """Another folder of precomputed features inside --data."""
    vocabulary: Path | None = None
    """Words of an authors' checkpoint, as JSON (see the trainer's `vocabulary` command)."""
    split: Literal["train", "dev", "test"] = "test"
    """Which split to look through."""
    skip_corrupt: bool = False
    """Leave out images that cannot be decoded, and count them."""
    atlas: Path | None = None
    """Write the images for Embedding Atlas to this .parquet file instead of showing a page."""
    neighbors: Annotated[int, Range(1, 256)] = 15
    """With --atlas: how many nearest images each image is written with."""
    host: str = "127.0.0.1"
    """The address to serve the page at; others than this machine's own show it to the network."""
    port: Annotated[int, Range(0, 65_535)] = 7860
    """The port; 0 takes a free one."""
    cpu: bool = False
    """Stay on the CPU even if there is a GPU."""

    def __post_init__(self) -> None:
        check_options(self)
