"""COCO's own annotation files with the released files of ids, which say what is in each split."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from vsepp.data.annotations import Annotated
from vsepp.data.picture_folder import PictureFolder
from vsepp.errors import InputError
from vsepp.files.arrays import read_array
from vsepp.files.json_files import field, read_json, shown


class Caption(NamedTuple):
    """A caption with the id and the file name of its image."""

    image: int
    file: str
    text: str


def read_coco_ids(folder: Path) -> dict[str, Annotated]:
    """COCO's ``annotations/captions_{train,val}2014.json`` with
    ``coco_{train,dev,test,restval}_ids.npy``.
    """
    annotations = folder / "annotations"
    from_train = coco_captions(annotations / "captions_train2014.json")
    from_val = coco_captions(annotations / "captions_val2014.json")
    sources = {"train": from_train, "restval": from_val, "dev": from_val, "test": from_val}
    within = PictureFolder(folder / "images")
    splits = {}
    for split, captions in sources.items():
        part = "train2014" if split == "train" else "val2014"
        splits[split] = chosen(annotations / f"coco_{split}_ids.npy", captions, within, part)
    return splits


def coco_captions(path: Path) -> dict[int, Caption]:
    """The captions of a file by annotation id."""
    karpathy = path.parents[1] / "dataset_coco.json"
    remedy = f"take it from COCO 2014's annotations, or put {karpathy} there"
    content = read_json(path, "annotation file", remedy)
    files: dict[int, str] = {}
    here = f"{path}, expected to be COCO's captions_*.json,"
    for number, image in enumerate(field(content, "images", list, here)):
        where = f"{path}: image {number}"
        files[field(image, "id", int, where)] = field(image, "file_name", str, where)
    captions: dict[int, Caption] = {}
    for number, note in enumerate(field(content, "annotations", list, here)):
        key, caption = coco_caption(note, files, f"{path}: annotation {number}")
        if captions.setdefault(key, caption) != caption:
            raise InputError(f"{path}: annotation id {key} stands for two captions: fetch it again")
    return captions


def coco_caption(note: Any, files: dict[int, str], where: str) -> tuple[int, Caption]:
    """An annotation's id, and its caption with its image."""
    image = field(note, "image_id", int, where)
    if image not in files:
        raise InputError(
            f"{where} is of image {shown(image)}, which `images` lacks: fetch it again"
        )
    text = field(note, "caption", str, where).strip()
    return field(note, "id", int, where), Caption(image, files[image], text)


def read_ids(path: Path) -> list[int]:
    """Annotation ids, one after another."""
    karpathy = path.parent.parent / "dataset_coco.json"
    remedy = f"take the released ones, or put Karpathy's {karpathy.name} into {karpathy.parent}"
    ids = read_array(path, "id file", remedy)
    flat = ids.ndim == 1 or ids.size == max(ids.shape, default=0)
    if not flat or not np.issubdtype(ids.dtype, np.integer):
        raise InputError(
            f"{path} is {ids.dtype} {ids.shape}: expected whole numbers in one row, an annotation "
            f"id each; {remedy}"
        )
    return [int(key) for key in ids.reshape(-1)]


def chosen(path: Path, captions: dict[int, Caption], folder: PictureFolder, part: str) -> Annotated:
    """The captions that an id file lists, in its order; images in the order of their first
    caption.
    """
    keys = read_ids(path)
    unknown = [key for key in keys if key not in captions]
    if unknown:
        raise InputError(
            f"{path} lists {len(unknown):,} annotations that the captions file lacks, the first "
            f"is {unknown[0]}: "
            "the two are of different releases (COCO 2014 is needed)"
        )
    rows: dict[int, int] = {}
    image_of = np.array(
        [rows.setdefault(captions[key].image, len(rows)) for key in keys], dtype=np.int64
    )
    files = {captions[key].image: captions[key].file for key in keys}
    return Annotated(
        paths=tuple(folder.picture(files[image], f"{path}, image {image}", part) for image in rows),
        captions=tuple(captions[key].text for key in keys),
        image_of=image_of,
        where=str(path),
        image_keys=tuple(rows),
        caption_keys=tuple(keys),
    )
