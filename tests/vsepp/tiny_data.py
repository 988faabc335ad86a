"""Tiny data sets in exactly the released layouts."""

import json
from pathlib import Path

import numpy as np
from PIL import Image

SPLITS = {"train": 40, "dev": 12, "test": 12}
COLOURS = ("red", "green", "blue", "black", "white")
ANIMALS = ("dog", "cat", "horse", "bird")


def caption(image: int, number: int) -> str:
    """The five captions of an image: the same two words in five settings."""
    frames = (
        "a {} {} .",
        "one {} {} in the grass",
        "The {} {} runs",
        "a {} {}",
        "look , a {} {} !",
    )
    return frames[number].format(COLOURS[image % 5], ANIMALS[image % 4])


def write_precomp(folder: Path, *, repeated: bool = False, width: int = 12) -> Path:
    """A ``*_precomp`` folder whose features tell colours and animals apart."""
    folder.mkdir(parents=True)
    random = np.random.default_rng(0)
    for name, count in SPLITS.items():
        rows = random.normal(0, 0.05, (count, width)).astype(np.float32)
        for image in range(count):
            rows[image, image % 5] += 1
            rows[image, 5 + image % 4] += 1
        np.save(folder / f"{name}_ims.npy", np.repeat(rows, 5, axis=0) if repeated else rows)
        if name == "train":
            np.save(folder / "train_ims_flip.npy", rows[:, ::-1].copy())
        lines = [caption(image, number) for image in range(count) for number in range(5)]
        (folder / f"{name}_caps.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return folder


def write_picture(path: Path, image: int, side: int = 40) -> None:
    """A picture whose colour follows the image's number."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.full((side, side + 8, 3), 40 * (image % 5) + 20, dtype=np.uint8)
    pixels[: side // 2, :, image % 3] = 255
    Image.fromarray(pixels).save(path)


def karpathy_entry(split: str, image: int, name: str, sentences: int = 5) -> dict:
    """An image in Karpathy's form."""
    said = [
        {
            "raw": caption(image, number % 5),
            "tokens": caption(image, number % 5).split(),
            "sentid": 10 * image + number,
        }
        for number in range(sentences)
    ]
    return {"split": split, "filename": name, "sentences": said, "imgid": image}


def write_flickr(root: Path, dataset: str = "f8k", counts: dict[str, int] = SPLITS) -> Path:
    """``f8k/images/*.jpg`` and ``f8k/dataset_flickr8k.json``, or the same for f30k."""
    images, number = [], 0
    for split, count in counts.items():
        for _ in range(count):
            name = f"{number:04d}.jpg"
            write_picture(root / dataset / "images" / name, number)
            images.append(karpathy_entry("val" if split == "dev" else split, number, name))
            number += 1
    title = {"f8k": "flickr8k", "f30k": "flickr30k"}[dataset]
    (root / dataset / f"dataset_{title}.json").write_text(
        json.dumps({"images": images, "dataset": title})
    )
    return root
