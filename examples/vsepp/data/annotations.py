"""Raw images with an annotation file in Karpathy's form."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from vsepp.data.picture_folder import PictureFolder
from vsepp.data.splits import CAPTIONS_EACH
from vsepp.errors import InputError
from vsepp.files.json_files import field, of_kind, read_json

Record = dict[str, Any]
LARGEST_KEY = 2**63 - 1


@dataclass(frozen=True)
class Annotated:
    """The images and captions of one split, before any image is opened."""

    paths: tuple[Path, ...]
    captions: tuple[str, ...]
    image_of: np.ndarray
    where: str
    image_keys: tuple[int, ...] = ()
    caption_keys: tuple[int, ...] = ()


def read_karpathy(path: Path, images: Path) -> dict[str, Annotated]:
    """Karpathy's ``images[].split/filename/filepath/sentences[].raw|tokens``, by split as named
    there.

    Of COCO's images with more than five captions the first five count, as in the released id files.
    """
    what = "annotation file"
    content = read_json(path, what, "put the file of that name from Karpathy's splits there")
    if not isinstance(content, dict) or not content.get("images"):
        raise InputError(f"{path} has no list `images`: expected Karpathy's dataset_*.json")
    by_split: dict[str, list[tuple[str, Record]]] = {}
    for number, image in enumerate(of_kind(content["images"], list, f"{path}: images")):
        where = f"{path}: image {number}"
        of_kind(image, dict, where)
        missing = {"split", "filename", "sentences"} - set(image)
        if missing:
            raise InputError(f"{where} lacks {', '.join(sorted(missing))}")
        by_split.setdefault(field(image, "split", str, where), []).append((where, image))
    folder = PictureFolder(images)
    return {split: karpathy_split(path, folder, split, rows) for split, rows in by_split.items()}


def karpathy_split(
    path: Path, folder: PictureFolder, split: str, rows: Sequence[tuple[str, Record]]
) -> Annotated:
    """One split of Karpathy's file."""
    sentences = [sentences_of(path, where, image) for where, image in rows]
    keys = keys_of([image for _, image in rows], sentences)
    return Annotated(
        paths=tuple(picture_of(folder, where, image) for where, image in rows),
        captions=tuple(
            caption_of(sentence, f"{where}, sentence {number}")
            for (where, _), said in zip(rows, sentences, strict=True)
            for number, sentence in enumerate(said)
        ),
        image_of=np.repeat(np.arange(len(rows)), [len(said) for said in sentences]),
        where=f"{path} ({split})",
        image_keys=keys[0],
        caption_keys=keys[1],
    )


def picture_of(folder: PictureFolder, where: str, image: Record) -> Path:
    """The file of an image; ``filepath`` is a folder in between, for COCO."""
    name = field(image, "filename", str, where)
    between = of_kind(image.get("filepath", ""), str, f"{where}: filepath")
    return folder.picture(name, where, between)


def sentences_of(path: Path, where: str, image: Record) -> list[Any]:
    """The sentences of an image that count."""
    said: list[Any] = field(image, "sentences", list, where)[:CAPTIONS_EACH]
    if not said:
        raise InputError(
            f"{path}: {field(image, 'filename', str, where)} has no sentences: remove it or add some"
        )
    return said


def caption_of(sentence: Any, where: str) -> str:
    """The text of a sentence: ``raw``, or its tokens, or the sentence if it is itself a text."""
    if isinstance(sentence, str):
        return sentence.strip()
    of_kind(sentence, dict, where)
    if "raw" not in sentence and "tokens" in sentence:
        tokens = field(sentence, "tokens", list, where)
        return " ".join(of_kind(token, str, f"{where}: a token") for token in tokens).strip()
    caption: str = field(sentence, "raw", str, where)
    return caption.strip()


def keys_of(
    images: Sequence[Record], sentences: Sequence[Sequence[Any]]
) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """COCO's numbers of the images and of their captions, where all of them have one."""
    of_images = [image.get("cocoid") for image in images]
    of_captions = [
        one.get("sentid") if isinstance(one, dict) else None for said in sentences for one in said
    ]
    if not all(type(key) is int and abs(key) <= LARGEST_KEY for key in of_images + of_captions):
        return (), ()
    return tuple(of_images), tuple(of_captions)


def joined(parts: Iterable[Annotated]) -> Annotated:
    """Several parts as one (train and restval)."""
    parts = list(parts)
    offsets = np.cumsum([0, *(len(part.paths) for part in parts)])
    keyed = all(part.caption_keys for part in parts)
    return Annotated(
        paths=tuple(path for part in parts for path in part.paths),
        captions=tuple(caption for part in parts for caption in part.captions),
        image_of=np.concatenate(
            [part.image_of + start for part, start in zip(parts, offsets, strict=False)]
        ),
        where=" and ".join(part.where for part in parts),
        image_keys=tuple(key for part in parts for key in part.image_keys) if keyed else (),
        caption_keys=tuple(key for part in parts for key in part.caption_keys) if keyed else (),
    )
