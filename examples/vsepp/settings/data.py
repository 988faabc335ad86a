"""What is read."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

import tyro

from vsepp.errors import InputError
from vsepp.settings.limits import COUNT, FRACTION, POSITIVE, SEED
from vsepp.settings.ranges import Range, check_options


@dataclass(frozen=True)
class Data:
    """What is read, and how images become tensors."""

    dataset: Literal["scenes", "coco", "flickr30k", "flickr8k", "own"] = "scenes"
    """The data set, which also names its folder: coco, f30k or f8k. own: --data is a table (.csv,
    .tsv, .jsonl, .parquet) or a folder in the layout of the datasets library.
    """
    layout: Literal["precomp", "raw"] = "precomp"
    """Precomputed features (*_ims.npy and *_caps.txt), or images and an annotation file."""
    precomp: str = ""
    """The folder of precomputed features, when it is not the data set's own (10crop_precomp,
    say).
    """
    mirror: bool = False
    """Half of the training images as mirrored ones: raw images always are with random crops;
    precomputed features need train_ims_flip.npy beside train_ims.npy.
    """
    restval: bool = False
    """COCO: train on restval too (the paper's rV)."""
    crop: Literal["rc", "1c", "10c"] = "rc"
    """Training crop: random resized crop and mirroring, centre crop, or the mean of ten crops."""
    image_size: Annotated[int, Range(8, 2_048)] = 224
    """Side of the square that the network sees; images are first scaled to 8/7 of it."""
    skip_corrupt: bool = False
    """Leave out images that cannot be decoded, and count them, instead of stopping."""
    tokenizer: Literal["auto", "nltk", "regex"] = "auto"
    """How captions become words; auto is nltk where it is installed, else the regular
    expression.
    """
    threshold: Annotated[int, POSITIVE] = 4
    """A word enters the vocabulary if the training captions hold it this often."""
    max_words: Annotated[int, Range(1, 10_000)] = 256
    """Captions longer than this are cut there, and counted."""
    vocabulary: str = ""
    """A vocabulary file (JSON) to use instead of one built from the training captions."""
    more_text: str = ""
    """A file of further captions, without images: those of one image in lines that follow one
    another, then an empty line. Their words enter the vocabulary and --word-vectors captions.
    """
    train_images: Annotated[int, COUNT] = 0
    """Scenes: how many training images to draw. Others: use only the first so many (0: all)."""
    scene_seed: Annotated[int, SEED] = 0
    """Scenes: the seed of the drawings, apart from the seed of the training."""

    images: str = ""
    """Own data: the folder that names of pictures are relative to; else `images` beside the table,
    or the table's own folder. Precomputed features: where the photographs are that *_names.txt names.
    """
    features: str = ""
    """Own data: the array (.npy) whose rows a column of features numbers; else captions.npy beside
    captions.csv.
    """
    image_column: str = ""
    """Own data: the column of pictures; else image or file_name."""
    feature_column: str = ""
    """Own data: the column of features, their rows in an array or (parquet, JSON) lists of numbers;
    else feature or features. Without one the pictures are read.
    """
    caption_column: str = ""
    """Own data: the column of captions (a text, or a list of texts); else caption or text."""
    split_column: str = ""
    """Own data: the column that says train, dev (val) or test; else split, where there is one."""
    dev_share: Annotated[float, FRACTION] = 0.1
    """Own data: the share of the images that dev is, where no row says dev."""
    test_share: Annotated[float, FRACTION] = 0.1
    """The same for test."""
    split_seed: Annotated[int, SEED] = 0
    """Own data: which images dev and test are drawn from the others. One seed gives everybody the
    same ones.
    """
    colours: Annotated[str, tyro.conf.Suppress] = ""
    """Raw images: the mean and the deviation of each colour, of a timm network, noted by the run
    itself; else ImageNet's.
    """
    digest: Annotated[str, tyro.conf.Suppress] = ""
    """Own data: the SHA-256 of what a run began with, noted by the run itself."""

    def __post_init__(self) -> None:
        check_options(self)
        self.colour_scale()

    def colour_scale(self) -> tuple[tuple[float, ...], ...]:
        """The mean and the deviation of each colour; nothing where they are ImageNet's."""
        try:
            numbers = tuple(float(one) for one in self.colours.split())
        except ValueError:
            numbers = (0.0,)
        if numbers and (len(numbers) != 6 or not all(0 <= one <= 1 for one in numbers)):
            raise InputError(f"--colours is {self.colours!r:.60}: expected six numbers up to 1")
        if not all(numbers[3:]):
            raise InputError("--colours has a deviation of 0")
        return (numbers[:3], numbers[3:]) if numbers else ()
