"""Embed a split once, then measure retrieval on it by the protocol of its data set."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from hardneg.metrics import RetrievalMetrics, coco_folds
from vsepp.data import padded
from vsepp.model import MatchingModel
from vsepp.retrieval import retrieve, similarity_of
from vsepp.splits import CAPTIONS_EACH, Split
from vsepp.vocabulary import Vocabulary

BATCH = 128
COCO_FOLDS, FOLD = 5, 1_000


@dataclass(frozen=True)
class Embedded:
    """A split as embeddings on the CPU; ``images_kept`` and ``captions_kept`` are rows of the
    split, of whose images ``skipped`` could not be read.
    """

    images: Tensor
    captions: Tensor
    image_of: Tensor
    images_kept: np.ndarray
    captions_kept: np.ndarray
    skipped: int = 0


def embed(model: MatchingModel, split: Split, vocabulary: Vocabulary) -> Embedded:
    """Every image once, every caption once; captions of images that cannot be read are left out."""
    model.eval()
    device = next(model.parameters()).device
    with torch.inference_mode():
        images, images_kept = encode_images(model.image, split, device)
        row_of = np.full(len(split.images), -1)
        row_of[images_kept] = np.arange(len(images_kept))
        captions_kept = np.flatnonzero(row_of[split.image_of] >= 0)
        captions = embed_captions(model, [split.captions[j] for j in captions_kept], vocabulary)
    image_of = torch.from_numpy(row_of[split.image_of[captions_kept]])
    skipped = len(split.images) - len(images_kept)
    return Embedded(images, captions, image_of, images_kept, captions_kept, skipped)


def encode_images(
    encode: Callable[[Tensor], Tensor],
    split: Split,
    device: torch.device,
    size: int = BATCH,
    shown: str = "",
) -> tuple[Tensor, np.ndarray]:
    """What ``encode`` makes of every image, and the rows of those that could be read.

    A progress bar appears if it is given something to be ``shown``.
    """
    parts, kept = [], []
    starts = range(0, len(split.images), size)
    for start in tqdm(starts, desc=shown, leave=False, disable=not shown):
        rows = range(start, min(start + size, len(split.images)))
        images, read = split.images.batch(rows, seeds=None)
        if read:
            parts.append(encode(images.to(device)).float().cpu())
            kept += [rows[position] for position in read]
    if not parts:
        raise ValueError(f"{split.where}: not one image could be read")
    return torch.cat(parts), np.array(kept)


def embed_captions(model: MatchingModel, captions: list[str], vocabulary: Vocabulary) -> Tensor:
    """The embeddings in the captions' order; batches hold captions of like length."""
    device = next(model.parameters()).device
    words = [torch.tensor(vocabulary.encode(caption)) for caption in captions]
    order = sorted(range(len(words)), key=lambda j: len(words[j]))
    embedded = torch.empty(len(words), model.text.embed_dim)
    for start in range(0, len(order), BATCH):
        picks = order[start : start + BATCH]
        ids, lengths = padded([words[j] for j in picks])
        embedded[picks] = model.text(ids.to(device), lengths).float().cpu()
    return embedded


def protocols(
    embedded: Embedded, measure: str, dataset: str, part: str = "test"
) -> dict[str, RetrievalMetrics]:
    """The results of a part by protocol: COCO's 5,000 test images count in folds and whole."""
    images, captions, image_of = embedded.images, embedded.captions, embedded.image_of
    whole = retrieve(images, captions, image_of, measure)
    five_each = torch.equal(image_of, torch.arange(len(captions)) // CAPTIONS_EACH)
    if dataset != "coco" or len(images) != COCO_FOLDS * FOLD or not five_each:
        return {part: whole}
    similarity = similarity_of(measure)
    return {
        "1k": coco_folds(images, captions, folds=COCO_FOLDS, similarity=similarity),
        "5k": whole,
    }
