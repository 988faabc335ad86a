"""Raw images with an annotation file: Karpathy's JSON, or COCO's own with the released id files."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from vsepp.splits import CAPTIONS_EACH


@dataclass(frozen=True)
class Annotated:
    """The images and captions of one split, before any image is opened."""

    paths: tuple[Path, ...]
    captions: tuple[str, ...]
    image_of: np.ndarray
    where: str
    image_keys: tuple[int, ...] = ()
    caption_keys: tuple[int, ...] = ()


def read_json(path: Path, where_from: str) -> Any:
    """Parse a JSON file; says where it breaks, or where one can be had."""
    if not path.is_file():
        raise FileNotFoundError(f"no annotation file at {path}: {where_from}")
    try:
        return json.loads(path.read_bytes().decode("utf-8"))
    except UnicodeDecodeError as error:
        raise ValueError(
            f"{path}: byte {error.start + 1} is not UTF-8: convert the file"
        ) from error
    except ValueError as error:
        raise ValueError(
            f"{path} is not complete JSON ({error}): it is truncated; fetch it again"
        ) from error


def read_karpathy(path: Path, images: Path) -> dict[str, Annotated]:
    """Karpathy's ``images[].split/filename/filepath/sentences[].raw``, by split as named there.

    Of COCO's images with more than five captions the first five count, as in the released id files.
    """
    content = read_json(path, "put the file of that name from Karpathy's splits there")
    if not isinstance(content, dict) or not content.get("images"):
        raise ValueError(f"{path} has no list `images`: expected Karpathy's dataset_*.json")
    by_split: dict[str, list[dict[str, Any]]] = {}
    for number, image in enumerate(content["images"]):
        missing = {"split", "filename", "sentences"} - set(image)
        if missing:
            raise ValueError(f"{path}: image {number} lacks {', '.join(sorted(missing))}")
        by_split.setdefault(image["split"], []).append(image)
    return {split: karpathy_split(path, images, split, rows) for split, rows in by_split.items()}


def karpathy_split(
    path: Path, images: Path, split: str, rows: Sequence[dict[str, Any]]
) -> Annotated:
    """One split of Karpathy's file."""
    sentences = [image["sentences"][:CAPTIONS_EACH] for image in rows]
    for image, said in zip(rows, sentences, strict=True):
        if not said:
            raise ValueError(f"{path}: {image['filename']} has no sentences: remove it or add some")
    with_keys = all("cocoid" in image for image in rows)
    return Annotated(
        paths=tuple(images / image.get("filepath", "") / image["filename"] for image in rows),
        captions=tuple(sentence["raw"].strip() for said in sentences for sentence in said),
        image_of=np.repeat(np.arange(len(rows)), [len(said) for said in sentences]),
        where=f"{path} ({split})",
        image_keys=tuple(image["cocoid"] for image in rows) if with_keys else (),
        caption_keys=tuple(one["sentid"] for said in sentences for one in said)
        if with_keys
        else (),
    )


def read_coco_ids(folder: Path) -> dict[str, Annotated]:
    """COCO's ``annotations/captions_{train,val}2014.json`` with
    ``coco_{train,dev,test,restval}_ids.npy``.
    """
    annotations = folder / "annotations"
    from_train = coco_captions(annotations / "captions_train2014.json")
    from_val = coco_captions(annotations / "captions_val2014.json")
    sources = {"train": from_train, "restval": from_val, "dev": from_val, "test": from_val}
    splits = {}
    for split, captions in sources.items():
        part = "train2014" if split == "train" else "val2014"
        splits[split] = chosen(
            annotations / f"coco_{split}_ids.npy", captions, folder / "images" / part
        )
    return splits


def coco_captions(path: Path) -> dict[int, tuple[int, str, str]]:
    """From annotation id to (image id, file name, caption)."""
    karpathy = path.parents[1] / "dataset_coco.json"
    content = read_json(path, f"take it from COCO 2014's annotations, or put {karpathy} there")
    try:
        names = {image["id"]: image["file_name"] for image in content["images"]}
        return {
            note["id"]: (note["image_id"], names[note["image_id"]], note["caption"].strip())
            for note in content["annotations"]
        }
    except (KeyError, TypeError) as error:
        raise ValueError(
            f"{path} lacks {error}: expected COCO's captions_*.json with images and annotations"
        ) from error


def chosen(ids: Path, captions: dict[int, tuple[int, str, str]], images: Path) -> Annotated:
    """The captions that an id file lists, in its order; images in the order of their first
    caption.
    """
    if not ids.is_file():
        raise FileNotFoundError(
            f"no id file at {ids}: take the released ones, or put Karpathy's dataset_coco.json "
            f"into {ids.parent.parent}"
        )
    keys = [int(key) for key in np.load(ids, allow_pickle=False)]
    unknown = [key for key in keys if key not in captions]
    if unknown:
        raise ValueError(
            f"{ids} lists {len(unknown):,} annotations that the captions file lacks, the first "
            f"is {unknown[0]}: "
            "the two are of different releases (COCO 2014 is needed)"
        )
    rows: dict[int, int] = {}
    image_of = np.array(
        [rows.setdefault(captions[key][0], len(rows)) for key in keys], dtype=np.int64
    )
    files = {captions[key][0]: captions[key][1] for key in keys}
    return Annotated(
        paths=tuple(images / files[image] for image in rows),
        captions=tuple(captions[key][2] for key in keys),
        image_of=image_of,
        where=str(ids),
        image_keys=tuple(rows),
        caption_keys=tuple(keys),
    )


def joined(parts: Iterable[Annotated]) -> Annotated:
    """Several parts as one (train and restval)."""
    parts = list(parts)
    offsets = np.cumsum([0, *(len(part.paths) for part in parts)])
    return Annotated(
        paths=tuple(path for part in parts for path in part.paths),
        captions=tuple(caption for part in parts for caption in part.captions),
        image_of=np.concatenate(
            [part.image_of + start for part, start in zip(parts, offsets, strict=False)]
        ),
        where=" and ".join(part.where for part in parts),
        image_keys=tuple(key for part in parts for key in part.image_keys),
        caption_keys=tuple(key for part in parts for key in part.caption_keys),
    )
