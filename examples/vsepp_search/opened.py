"""Models and their data, from what the command line names."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from accelerate import Accelerator

from hardneg.image_text import ImageTextModel
from vsepp.checkpoints import model_file
from vsepp.data.images import Features, Photographs, feature_width
from vsepp.data.pairs import read_splits
from vsepp.data.splits import Split
from vsepp.errors import InputError
from vsepp.evaluate import load_any
from vsepp.export import travelling
from vsepp.run.folder import data_place
from vsepp.settings import Data
from vsepp_search.arguments import Search
from vsepp_search.cache import embedded
from vsepp_search.fingerprint import of_data, of_files
from vsepp_search.index import Index

EXPORTED = ("config.json", "model.safetensors")


@dataclass(frozen=True)
class Opened:
    """A model, the data that it was trained on, and the SHA-256 of its files."""

    name: str
    model: ImageTextModel
    data: Data
    identity: str
    kept: Path
    """Where the embeddings are kept."""
    place: Path | None
    """Where the data are."""
    exported: bool = False


def indexes(asked: Search) -> list[Index]:
    """An index of the split for each run; all of them over the same images and captions."""
    opened = [open_model(path, asked) for path in asked.runs]
    splits = read_each(opened, asked)
    device = Accelerator(cpu=asked.cpu).device
    found = []
    for one, split in zip(opened, splits, strict=True):
        identity = {"model": one.identity, "data": of_data(split)}
        kept = embedded(one.model.to(device), split, one.kept, identity)
        found.append(Index(one.name, one.model, split, kept, one.data.max_words))
    return found


def open_model(path: Path, asked: Search) -> Opened:
    """A run's model, a file's, or an exported one; nothing in the files is run."""
    name = "/".join(path.resolve().parts[-2:])
    kept = f"embeddings-{asked.split}.safetensors"
    if all((path / file).is_file() for file in EXPORTED):
        model = ImageTextModel.from_pretrained(str(path))
        identity = of_files([path / file for file in EXPORTED])
        data = Data(dataset="own", crop="1c")
        return Opened(name, model, data, identity, path / kept, asked.data, exported=True)
    file = model_file(path)
    trained = load_any(file, asked.vocabulary)
    words = [] if asked.vocabulary is None else [asked.vocabulary]
    beside = path / kept if path.is_dir() else path.with_name(f"{path.name}-{kept}")
    identity, data = of_files([file, *words]), trained.settings.data
    place = data_place(path, asked.data)
    return Opened(name, travelling(trained), data, identity, beside, place)


def read_each(opened: Sequence[Opened], asked: Search) -> list[Split]:
    """The split of each model's data; the same settings are read once."""
    read: dict[tuple[Data, Path | None], Split] = {}
    splits = []
    for one in opened:
        data, place = data_of(one, asked), one.place
        if (data, place) not in read:
            read[data, place] = getattr(read_splits(data, place), asked.split)
            check_pictures(read[data, place], asked)
        splits.append(fitting(one, read[data, place]))
    first = splits[0]
    for split in splits[1:]:
        if split.captions != first.captions or split.image_of.tolist() != first.image_of.tolist():
            raise InputError(
                f"{opened[0].name} is of {first}; {opened[1].name} is of {split}: two models side by side "
                "need the same images and captions"
            )
    return splits


def check_pictures(split: Split, asked: Search) -> None:
    """Refuse a folder of pictures that no name leads to."""
    if asked.images and isinstance(split.images, Features) and not split.images.pictures:
        raise InputError(
            f"--images is {asked.images!r:.80}: expected a folder of the pictures that {asked.split}_names.txt "
            f"beside the features names, one a line, or a column of the table; {split.where} names none"
        )


def data_of(opened: Opened, asked: Search) -> Data:
    """The settings of the data, with what the command line says of where they are now."""
    if opened.exported and asked.data is None:
        raise InputError(
            f"{opened.name} is an exported model, which knows of no data: pass --data, a table of images "
            "and captions (docs/vsepp.md, Images and captions of your own)"
        )
    named = {name: getattr(asked, name) for name in ("images", "features", "precomp")}
    changes = {name: value for name, value in named.items() if value is not None}
    return replace(
        opened.data, **changes, skip_corrupt=opened.data.skip_corrupt or asked.skip_corrupt
    )


def fitting(opened: Opened, split: Split) -> Split:
    """The split as the model sees it; an error where it sees something else."""
    model, width = opened.model, feature_width(split.images)
    if width != model.feature_dim:
        sees = [
            "pictures" if one is None else f"features {one} wide"
            for one in (model.feature_dim, width)
        ]
        raise InputError(f"{opened.name} sees {sees[0]}, but {split.where} holds {sees[1]}")
    if opened.exported and isinstance(split.images, Photographs) and model.pictures is not None:
        view = model.pictures.transform()
        return replace(split, images=replace(split.images, test_view=view))
    return split
