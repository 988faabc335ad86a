"""What each command takes on the command line; tyro makes the options and their help from these."""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal, TypeVar

import tyro

from vsepp.settings import Options, Settings


@dataclass(frozen=True)
class Train:
    """Train recipes in turn, each with one or more seeds, then write a table and report.html.

    Table and report are of all runs under --out.
    Without --data, COCO's script trains on scenes: pictures that the program draws itself. Every
    other option below changes one setting of the recipe; the defaults shown are those of the first
    recipe.
    """

    recipe: tuple[str, ...] = ()
    """Names of recipes; the `recipes` command lists them."""
    data: Path | None = None
    """The folder of the data sets: DIR/f8k_precomp/, DIR/coco/images/ and so on. Own data: the
    table or the folder itself.
    """
    out: Path = Path("runs")
    """Each run gets a folder in here, named after its recipe and seed; so does the report."""
    settings: Settings = field(default_factory=Settings)
    run: Options = field(default_factory=Options)


@dataclass(frozen=True)
class Evaluate:
    """Measure a trained model: a run's folder, one of our .pt files, or the authors' *.pth.tar."""

    checkpoint: Annotated[Path, tyro.conf.Positional]
    """The folder or file."""
    data: Path | None = None
    """The folder of the data sets, as for training; of a run else the one that it was trained with."""
    vocabulary: Path | None = None
    """Words of an authors' checkpoint, as JSON (see the `vocabulary` command)."""
    precomp: str | None = None
    """Another folder of precomputed features inside --data."""
    images: str | None = None
    """Own data: where the pictures are now."""
    features: str | None = None
    """Own data: where the array of features is now."""
    split: Literal["dev", "test"] = "test"
    """Which split to measure."""
    query_bank: bool = False
    """Also measure with scores corrected by a bank of training images and captions (Bogolin et al.,
    CVPR 2022), as results of their own.
    """
    bank_temperature: float = 0.05
    """What --query-bank divides scores by."""
    skip_corrupt: bool = False
    """Leave out images that cannot be decoded, and count them."""
    json: Path | None = None
    """Also write the numbers to this file."""
    cpu: bool = False
    """Stay on the CPU even if there is a GPU."""


@dataclass(frozen=True)
class Export:
    """Write a trained model as safetensors and config.json, for `hardneg.image_text`."""

    checkpoint: Annotated[Path, tyro.conf.Positional]
    """A run's folder, one of our .pt files, or the authors' *.pth.tar."""
    out: Annotated[Path, tyro.conf.Positional]
    """The folder to make."""
    vocabulary: Path | None = None
    """Words of an authors' checkpoint, as JSON (see the `vocabulary` command)."""


@dataclass(frozen=True)
class Features:
    """Compute features of raw images once, in the released *_precomp layout, for frozen recipes."""

    data: Path
    """The folder of the data sets."""
    dataset: Literal["coco", "flickr30k", "flickr8k"]
    """Which data set."""
    out: Path
    """The folder to write, DIR/f8k_precomp for example."""
    backbone: str = "resnet152"
    """A torchvision classifier, or timm:NAME."""
    weights: str = "IMAGENET1K_V1"
    """Its weights (timm's are in its names), or "none"."""
    crop: Literal["1c", "10c"] = "1c"
    """Centre crop, or the mean of ten crops."""
    image_size: int = 224
    """Side of the crop."""
    restval: bool = False
    """COCO: restval into train."""
    skip_corrupt: bool = False
    """Leave out images that cannot be decoded, and count them."""
    cpu: bool = False
    """Stay on the CPU."""


@dataclass(frozen=True)
class Report:
    """Write report.html about finished runs: expected numbers beside ours, curves, a gallery."""

    runs: Annotated[tuple[Path, ...], tyro.conf.Positional]
    """Folders of finished runs, or a folder that holds such folders; others are left out."""
    out: Path = Path("report.html")
    """Where to write the page."""


@dataclass(frozen=True)
class Recipes:
    """List the recipes, one for each row and loss of the paper's tables, and what to expect."""

    only: str = ""
    """Show only recipes whose name contains this."""
    all: bool = False
    """Also show numbers that were recalled from the paper and verified nowhere."""


@dataclass(frozen=True)
class Words:
    """Convert a released *_vocab.pkl to JSON without running anything in it."""

    from_pickle: Path
    """The pickle."""
    out: Path
    """The JSON file to write."""
    tokenizer: Literal["nltk", "regex"] = "nltk"
    """The tokenizer that the words came from; the released ones are nltk's."""


COMMANDS = {
    "train": Train,
    "evaluate": Evaluate,
    "export": Export,
    "features": Features,
    "report": Report,
    "recipes": Recipes,
    "vocabulary": Words,
}
T = TypeVar("T")


def command_of(given: list[str]) -> str:
    """The command, taken off the arguments; options alone mean training."""
    if not given or given[0].startswith("-"):
        return "train"
    command = given.pop(0)
    if command not in COMMANDS:
        raise ValueError(f"unknown command {command!r}: choose one of {', '.join(COMMANDS)}")
    return command


def overview() -> str:
    """The commands, one a line."""
    lines = [
        f"  {name:<11}{(kind.__doc__ or '').splitlines()[0]}" for name, kind in COMMANDS.items()
    ]
    return "\n".join(
        ["commands (COMMAND --help explains each; `train` may be left out):", *lines, ""]
    )


def parsed(kind: type[T], command: str, given: list[str], default: T | None = None) -> T:
    """The command's arguments, from the command line."""
    program = f"{Path(sys.argv[0]).name} {command}"
    config = (tyro.conf.OmitArgPrefixes,)
    return tyro.cli(kind, prog=program, args=given, default=default, config=config)
