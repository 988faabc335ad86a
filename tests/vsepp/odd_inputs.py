"""What the tests of odd and broken inputs share: tiny data, all that a run does before its first
step, and how a refusal must look.
"""

import gzip
import json
import os
import pickle
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tiny_data import caption
from vsepp.data.pairs import Pairs, read_splits, vocabulary_of
from vsepp.data.picture_check import check_pictures
from vsepp.data.splits import Splits
from vsepp.errors import InputError
from vsepp.settings import Data

COUNTS = {"train": 4, "dev": 2, "test": 3}
WIDTH = 6
PRECOMP = Data("flickr8k", threshold=1, tokenizer="regex")
RAW = Data("flickr8k", "raw", image_size=16, threshold=1, tokenizer="regex")
Change = Callable[[Path], object]
Images = list[dict[str, Any]]


def lines_of(images: int) -> list[str]:
    """Five captions of each image, all different."""
    return [f"{caption(image, k)} number {image}" for image in range(images) for k in range(5)]


LINES = lines_of(COUNTS["train"])


def write_text(path: Path, content: str | bytes | list[str]) -> None:
    """A file of this content; of a list, a line each."""
    text = "".join(f"{line}\n" for line in content) if isinstance(content, list) else content
    path.write_bytes(text.encode() if isinstance(text, str) else text)


def features(rows: int = COUNTS["train"], width: int = WIDTH) -> np.ndarray:
    """Features that are all different."""
    return np.random.default_rng(rows).normal(size=(rows, width)).astype(np.float32)


def write_folder(folder: Path) -> Path:
    """A whole ``f8k_precomp``."""
    folder.mkdir(parents=True)
    for name, count in COUNTS.items():
        np.save(folder / f"{name}_ims.npy", features(count))
        write_text(folder / f"{name}_caps.txt", lines_of(count))
    return folder


def begin(root: Path, data: Data) -> Splits:
    """What a run reads before its first step, and all images of every split as batches."""
    splits = check_pictures(read_splits(data, root), quiet=True)
    pairs = Pairs(splits.train, vocabulary_of(data, splits), seed=0)
    batches = [pairs.__getitems__(range(len(pairs))).images]
    for part in (splits.dev, splits.test):
        batches.append(part.images.batch(range(len(part.images)), None)[0])
    assert all(torch.isfinite(images).all() and images.dtype == torch.float32 for images in batches)
    return splits


def refused(root: Path, data: Data, message: str) -> None:
    """The run is refused before its first step, in one line that says what to do."""
    with pytest.raises(InputError) as caught:
        begin(root, data)
    said = str(caught.value)
    assert re.search(message, said), said
    assert len(said.splitlines()) == 1
    assert len(said) < 1_000
    assert re.search("expected|:", said)


class Harmful:
    """Makes a file when it is unpickled."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple:
        return Path.touch, (self.target,)


def as_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def as_pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def as_link(target: str) -> Change:
    """Puts a link to the target in a file's place."""

    def change(path: Path) -> None:
        path.unlink()
        path.symlink_to(target)

    return change


def to_itself(path: Path) -> None:
    as_link(path.name)(path)


def compressed(path: Path) -> None:
    path.write_bytes(gzip.compress(path.read_bytes()))


def pickled(path: Path) -> None:
    path.write_bytes(pickle.dumps(Harmful(path.parent / "harm")))


def annotation(root: Path) -> Path:
    return root / "f8k" / "dataset_flickr8k.json"


def images(root: Path) -> Path:
    return root / "f8k" / "images"


def change_images(root: Path, change: Callable[[Images], object]) -> None:
    content = json.loads(annotation(root).read_text())
    change(content["images"])
    annotation(root).write_text(json.dumps(content))


def on_image(**values: Any) -> Callable[[Images], object]:
    """Gives the second image other values."""
    return lambda rows: rows[1].update(values)


LARGE_FILE_POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:00ff\nsize 123456789\n"
NO_FILES: dict[str, tuple[Change, str]] = {
    "missing": (Path.unlink, "no {what} at .*{file}"),
    "a folder": (as_folder, "no {what} at .*{file}, which is a folder"),
    "a pipe, which would never end": (as_pipe, "{file}, which is a pipe, socket or device"),
    "a device, which would never end": (as_link("/dev/zero"), "{file}, which is a pipe, socket"),
    "a broken link": (as_link("nowhere"), "{file}, which is a link to nowhere, where nothing is"),
    "a link to itself": (to_itself, "no {what} at .*{file}"),
    "a disk that cannot be read": (as_link("/proc/self/mem"), "{file} cannot be read .*error"),
    "compressed": (compressed, "{file} is .*(gzip|zero bytes)"),
    "a pickle": (pickled, "{file} (is|, line 1: byte 1)"),
}
"""What may stand in any file's place."""
