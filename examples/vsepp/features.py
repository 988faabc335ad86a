"""Features of a frozen network, computed once and kept in the released layout of precomputed
features.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from accelerate import Accelerator
from tqdm import tqdm

from hardneg.encoders import ImageEncoder
from vsepp.data import read_splits
from vsepp.files import write_file, write_text
from vsepp.settings import Data
from vsepp.splits import Split

BATCH = 64


def extract(data: Data, root: Path, backbone: str, weights: str, out: Path, cpu: bool) -> list[str]:
    """Write ``{train,dev,test}_ims.npy``, ``*_caps.txt`` and ``*_names.txt``; one line about
    each split.
    """
    device = Accelerator(cpu=cpu).device
    encoder = ImageEncoder(backbone, 1, weights=None if weights == "none" else weights).eval()
    encoder.to(device)
    splits = read_splits(data, root)
    lines = []
    for name in ("train", "dev", "test"):
        split = getattr(splits, name)
        kept = extract_split(encoder, split, out, name, device)
        lines.append(f"{name}: {kept:,} images, {len(split.images) - kept:,} skipped, in {out}")
    return lines


def extract_split(
    encoder: ImageEncoder, split: Split, out: Path, name: str, device: torch.device
) -> int:
    """One split; returns how many images could be read. Features are L2-normalised, as the
    encoder uses them.
    """
    parts, kept = [], []
    for start in tqdm(range(0, len(split.images), BATCH), desc=name, leave=False):
        rows = range(start, min(start + BATCH, len(split.images)))
        images, read = split.images.batch(rows, seeds=None)
        if read:
            with torch.inference_mode():
                parts.append(encoder.features(images.to(device)).float().cpu().numpy())
            kept += [rows[position] for position in read]
    captions = captions_of(split, kept)
    write_file(out / f"{name}_ims.npy", lambda path: save_array(path, np.concatenate(parts)))
    write_text(out / f"{name}_caps.txt", "".join(f"{one}\n" for one in captions))
    write_text(
        out / f"{name}_names.txt", "".join(f"{split.images.paths[row].name}\n" for row in kept)
    )
    return len(kept)


def captions_of(split: Split, kept: list[int]) -> list[str]:
    """The captions of the kept images, five each: the layout has no room for another number."""
    of_image: dict[int, list[str]] = {row: [] for row in kept}
    for caption, row in zip(split.captions, split.image_of.tolist(), strict=True):
        if row in of_image:
            of_image[row].append(" ".join(caption.split()))
    uneven = [row for row, captions in of_image.items() if len(captions) != 5]
    if uneven:
        raise ValueError(
            f"{split.where}: image {uneven[0] + 1} has {len(of_image[uneven[0]])} captions: "
            "the precomputed layout needs five of each image"
        )
    return [caption for row in kept for caption in of_image[row]]


def save_array(path: Path, array: np.ndarray) -> None:
    """Write an array under exactly this name (numpy would add its ending)."""
    with path.open("wb") as stream:
        np.save(stream, array)
