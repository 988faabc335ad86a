"""Embeddings of a split, computed once and kept beside the model."""

from __future__ import annotations

import hashlib
import sys
import time
from dataclasses import fields
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from hardneg.image_text import ImageTextModel
from vsepp.data.picture_check import check_each
from vsepp.data.splits import Split
from vsepp.evaluate import Embedded, embed
from vsepp.files.writing import write_file
from vsepp.model import MatchingModel

FORMAT = "hardneg embeddings 1"
NAMES = tuple(one.name for one in fields(Embedded) if one.name != "skipped")
HOUR = 3_600


def embedded(model: ImageTextModel, split: Split, path: Path, identity: dict[str, str]) -> Embedded:
    """The embeddings of the file, if they are of this model and these data, else new ones.

    ``identity`` holds a SHA-256 of each. A file that is of others, damaged or cut off is replaced.
    """
    found = read(path, identity, split)
    if found is not None:
        return found
    counts = f"{len(split.images):,} images and {len(split.captions):,} captions"
    print(f"embedding {counts}, once: they are kept in {path}", file=sys.stderr)
    (checked,) = check_each([split])
    made = embed(MatchingModel(model.image, model.text), checked, model.vocabulary, shown="images")
    try:
        write(path, made, identity)
    except OSError as error:
        print(f"they are not kept: {error}", file=sys.stderr)
    return made


def write(path: Path, made: Embedded, identity: dict[str, str]) -> None:
    """Write the file whole or not at all, and remove what killed processes left of it."""
    tensors = {name: torch.as_tensor(getattr(made, name)).contiguous() for name in NAMES}
    told = {"format": FORMAT, **identity, "content": content(tensors)}
    for old in path.parent.glob(f".{path.name}.*.unfinished"):
        if time.time() - old.stat().st_mtime > HOUR:
            old.unlink(missing_ok=True)
    write_file(path, lambda unfinished: save_file(tensors, unfinished, told))


def content(tensors: dict[str, Tensor]) -> str:
    """The SHA-256 of the numbers."""
    whole = hashlib.sha256()
    for name in NAMES:
        whole.update(repr((name, tuple(tensors[name].shape), tensors[name].dtype)).encode())
        whole.update(tensors[name].numpy())
    return whole.hexdigest()


def read(path: Path, identity: dict[str, str], split: Split) -> Embedded | None:
    """What ``write`` wrote; None where it is something else."""
    if not path.is_file():
        return None
    try:
        with safe_open(path, framework="pt") as file:
            told = file.metadata() or {}
            if told != {"format": FORMAT, **identity, "content": told.get("content")}:
                return None
            tensors = {name: file.get_tensor(name) for name in NAMES}
    except (SafetensorError, OSError):
        return None
    if told["content"] != content(tensors) or not fits(tensors, split):
        return None
    rows = {name: tensors[name].numpy() for name in NAMES if name.endswith("_kept")}
    skipped = len(split.images) - len(tensors["images"])
    return Embedded(**{**tensors, **rows}, skipped=skipped)


def fits(tensors: dict[str, Tensor], split: Split) -> bool:
    """Whether these can be embeddings of the split; the file may be a stranger's."""
    images, captions = tensors["images"], tensors["captions"]
    if any(one.dtype != torch.float32 or one.dim() != 2 for one in (images, captions)):
        return False
    rows = [tensors[name] for name in NAMES if name not in ("images", "captions")]
    if any(one.dtype != torch.int64 or one.dim() != 1 for one in rows):
        return False
    image_of, images_kept, captions_kept = (one.numpy() for one in rows)
    return (
        images.shape == (len(images_kept), captions.shape[1])
        and len(captions) == len(captions_kept) == len(image_of) > 0
        and rising(images_kept, len(split.images))
        and rising(captions_kept, len(split.captions))
        and rising(np.unique(image_of), len(images_kept))
        and np.array_equal(images_kept[image_of], split.image_of[captions_kept])
        and bool(images.isfinite().all() and captions.isfinite().all())
    )


def rising(rows: np.ndarray, count: int) -> bool:
    """Whether these are different rows of so many, in order."""
    return len(rows) > 0 and rows[0] >= 0 and rows[-1] < count and bool((np.diff(rows) > 0).all())
