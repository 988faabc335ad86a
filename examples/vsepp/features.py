"""Features of a frozen network, computed once and kept in the released layout of precomputed
features.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from accelerate import Accelerator

from hardneg.encoders import ImageEncoder
from vsepp.data.pairs import PARTS, read_splits
from vsepp.data.picture_check import check_pictures
from vsepp.data.splits import CAPTIONS_EACH, Split
from vsepp.errors import InputError
from vsepp.evaluate import encode_images
from vsepp.files.writing import require_writable, write_file, write_text
from vsepp.model import check_image_size
from vsepp.settings import Data

BATCH = 64


def extract(data: Data, root: Path, backbone: str, weights: str, out: Path, cpu: bool) -> list[str]:
    """Write ``{train,dev,test}_ims.npy``, ``*_caps.txt`` and ``*_names.txt``; one line about
    each split.
    """
    require_writable(out / "train_ims.npy")
    device = Accelerator(cpu=cpu).device
    splits = read_splits(data, root)
    captions = {name: captions_by_image(getattr(splits, name)) for name in PARTS}
    # the network's weights are fetched once the files fit, and before every picture is decoded
    encoder = ImageEncoder(backbone, 1, weights=None if weights == "none" else weights).eval()
    check_image_size(encoder, data.image_size)
    encoder.to(device)
    splits = check_pictures(splits)
    lines = []
    for name in PARTS:
        split = getattr(splits, name)
        kept = extract_split(encoder, split, captions[name], out / name, device)
        lines.append(f"{name}: {kept:,} images, {len(split.images) - kept:,} skipped, in {out}")
    return lines


def extract_split(
    encoder: ImageEncoder,
    split: Split,
    captions: list[list[str]],
    start: Path,
    device: torch.device,
) -> int:
    """One split, into files whose names begin with ``start``; returns how many images could be
    read. Features are L2-normalised, as the encoder uses them.
    """
    with torch.inference_mode():
        features, kept = encode_images(encoder.features, split, device, BATCH, shown=start.name)
    written = {
        "caps": [one for row in kept for one in captions[row]],
        "names": [split.images.paths[row].name for row in kept],
    }
    write_file(Path(f"{start}_ims.npy"), lambda path: save_array(path, features.numpy()))
    for kind, lines in written.items():
        write_text(Path(f"{start}_{kind}.txt"), "".join(f"{line}\n" for line in lines))
    return len(kept)


def captions_by_image(split: Split) -> list[list[str]]:
    """The captions of every image, five each: the layout has no room for another number."""
    by_image: list[list[str]] = [[] for _ in range(len(split.images))]
    for caption, row in zip(split.captions, split.image_of.tolist(), strict=True):
        by_image[row].append(" ".join(caption.split()))
    for row, captions in enumerate(by_image):
        if len(captions) != CAPTIONS_EACH:
            raise InputError(
                f"{split.where}: image {row + 1} has {len(captions)} captions: "
                f"the precomputed layout needs {CAPTIONS_EACH} of each image"
            )
    return by_image


def save_array(path: Path, array: np.ndarray) -> None:
    """Write an array under exactly this name (numpy would add its ending)."""
    with path.open("wb") as stream:
        np.save(stream, array)
