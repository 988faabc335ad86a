"""Embed a split once, then measure retrieval on it by the protocol of its data set; the same of a
model from disk, ours or the authors'.
"""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from torch import Tensor
from tqdm import tqdm

from hardneg.metrics import DirectionMetrics, RetrievalMetrics, coco_folds
from vsepp.checkpoints import Trained, load_model, load_weights
from vsepp.data.images import feature_width
from vsepp.data.pairs import padded, read_splits
from vsepp.data.picture_check import check_each
from vsepp.data.splits import CAPTIONS_EACH, Split
from vsepp.data.vocabulary import Vocabulary
from vsepp.model import MatchingModel, build_model
from vsepp.release.authors import load_authors_checkpoint
from vsepp.retrieval import QueryBank, caution, check_bank, record, retrieve, similarity_of
from vsepp.settings import Data

BATCH = 128
COCO_FOLDS, FOLD = 5, 1_000
BANK_IMAGES = 20_000
"""The first so many training images, with their captions, are a query bank."""


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


def embed(
    model: MatchingModel,
    split: Split,
    vocabulary: Vocabulary,
    accelerator: Accelerator | None = None,
    shown: str = "",
) -> Embedded:
    """Every image once, every caption once; captions of images that cannot be read are left out.

    Of several processes each takes every so many-th batch. The batches are those of one process, so
    the embeddings are the same to the last bit.
    """
    model.eval()
    device = next(model.parameters()).device
    part = (0, 1)
    if accelerator is not None:
        part = (accelerator.process_index, accelerator.num_processes)
    with torch.inference_mode():
        images, images_kept = embed_images(model, split, part, shown)
        if accelerator is not None and part[1] > 1:
            images, images_kept = of_all_rows(images, images_kept, len(split.images), accelerator)
        readable(images_kept, split)
        row_of = np.full(len(split.images), -1)
        row_of[images_kept] = np.arange(len(images_kept))
        captions_kept = np.flatnonzero(row_of[split.image_of] >= 0)
        kept = [split.captions[j] for j in captions_kept]
        captions = embed_captions(model, kept, vocabulary, part)
        if accelerator is not None and part[1] > 1:
            captions = accelerator.reduce(captions.to(device), "sum").cpu()
    image_of = torch.from_numpy(row_of[split.image_of[captions_kept]])
    skipped = len(split.images) - len(images_kept)
    return Embedded(images, captions, image_of, images_kept, captions_kept, skipped)


def embed_images(
    model: MatchingModel, split: Split, part: tuple[int, int], shown: str = ""
) -> tuple[Tensor, np.ndarray]:
    """The embeddings of a process's part of the images, and their rows."""
    device = next(model.parameters()).device
    found = [*encoded(model.image, split, device, BATCH, part, shown)]
    nothing = torch.empty(0, model.text.embed_dim)
    rows = np.array([row for _, kept in found for row in kept], dtype=np.int64)
    return torch.cat([nothing, *(images for images, _ in found)]), rows


def of_all_rows(
    images: Tensor, rows: np.ndarray, count: int, accelerator: Accelerator
) -> tuple[Tensor, np.ndarray]:
    """The rows of all processes in their order; each has some of the ``count`` rows and adds 0 to
    the others.
    """
    whole, there = torch.zeros(count, images.shape[1]), torch.zeros(count, dtype=torch.int64)
    whole[rows], there[rows] = images, 1
    whole = accelerator.reduce(whole.to(accelerator.device), "sum").cpu()
    kept = accelerator.reduce(there.to(accelerator.device), "sum").cpu().numpy().nonzero()[0]
    return whole[kept], kept


def readable(rows: np.ndarray, split: Split) -> None:
    """Refuse to go on with a split of which no image could be read."""
    if len(rows) == 0:
        raise ValueError(f"{split.where}: not one image could be read")


def encoded(
    encode: Callable[[Tensor], Tensor],
    split: Split,
    device: torch.device,
    size: int,
    part: tuple[int, int] = (0, 1),
    shown: str = "",
) -> Iterator[tuple[Tensor, list[int]]]:
    """What ``encode`` makes of the images that can be read, batch by batch, and their rows."""
    rank, ranks = part
    starts = range(0, len(split.images), size)[rank::ranks]
    for start in tqdm(starts, desc=shown, leave=False, disable=None if shown else True):
        rows = range(start, min(start + size, len(split.images)))
        images, read = split.images.batch(rows, seeds=None)
        if read:
            yield encode(images.to(device)).float().cpu(), [rows[position] for position in read]


def encode_images(
    encode: Callable[[Tensor], Tensor],
    split: Split,
    device: torch.device,
    size: int = BATCH,
    shown: str = "",
) -> tuple[Tensor, np.ndarray]:
    """What ``encode`` makes of every image, and the rows of those that could be read.

    A progress bar appears on a terminal if it is given something to be ``shown``.
    """
    found = [*encoded(encode, split, device, size, shown=shown)]
    rows = np.array([row for _, kept in found for row in kept])
    readable(rows, split)
    return torch.cat([images for images, _ in found]), rows


def embed_captions(
    model: MatchingModel,
    captions: list[str],
    vocabulary: Vocabulary,
    part: tuple[int, int] = (0, 1),
) -> Tensor:
    """The embeddings in the captions' order; batches hold captions of like length. Rows of another
    process's part stay 0.
    """
    device = next(model.parameters()).device
    words = [torch.tensor(vocabulary.encode(caption)) for caption in captions]
    order = sorted(range(len(words)), key=lambda j: len(words[j]))
    embedded = torch.zeros(len(words), model.text.embed_dim)
    rank, ranks = part
    for start in range(0, len(order), BATCH)[rank::ranks]:
        picks = order[start : start + BATCH]
        ids, lengths = padded([words[j] for j in picks])
        embedded[picks] = model.text(ids.to(device), lengths).float().cpu()
    return embedded


def protocols(
    embedded: Embedded, measure: str, dataset: str, part: str = "test"
) -> dict[str, RetrievalMetrics]:
    """The results of a part by protocol: COCO's 5,000 test images count in folds and whole."""
    images, captions = embedded.images, embedded.captions
    whole = retrieve(images, captions, embedded.image_of, measure)
    if not has_folds(embedded, dataset):
        return {part: whole}
    similarity = similarity_of(measure)
    return {
        "1k": coco_folds(images, captions, folds=COCO_FOLDS, similarity=similarity),
        "5k": whole,
    }


def has_folds(embedded: Embedded, dataset: str) -> bool:
    """Whether it is COCO's test split, whole."""
    numbers = torch.arange(len(embedded.captions)) // CAPTIONS_EACH
    whole = dataset == "coco" and len(embedded.images) == COCO_FOLDS * FOLD
    return whole and torch.equal(embedded.image_of, numbers)


def protocols_with(
    bank: QueryBank, embedded: Embedded, dataset: str, part: str
) -> dict[str, RetrievalMetrics]:
    """The same with a query bank; of folds each knows its own candidates alone."""
    whole = bank.retrieve(embedded.images, embedded.captions, embedded.image_of)
    if not has_folds(embedded, dataset):
        return {f"{part}, query bank": whole}
    image_of = torch.arange(FOLD * CAPTIONS_EACH) // CAPTIONS_EACH
    parts = zip(embedded.images.split(FOLD), embedded.captions.split(len(image_of)), strict=True)
    each = [bank.retrieve(images, captions, image_of) for images, captions in parts]
    ways = ("image_to_text", "text_to_image")
    means = (DirectionMetrics.mean([getattr(one, way) for one in each]) for way in ways)
    return {"1k, query bank": RetrievalMetrics(*means), "5k, query bank": whole}


def load_any(path: Path, vocabulary: Path | None) -> Trained:
    """A model of ours, or a ``*.pth.tar`` together with its converted vocabulary."""
    if not path.name.endswith(".pth.tar"):
        return load_model(path)
    if vocabulary is None:
        raise ValueError(
            f"{path} holds no vocabulary: pass --vocabulary words.json, converted from the "
            "released *_vocab.pkl by the `vocabulary` command"
        )
    return replace(load_authors_checkpoint(path), vocabulary=Vocabulary.load(vocabulary))


def rebuild(trained: Trained, split: Split) -> MatchingModel:
    """The encoders with the trained weights in them."""
    assert trained.vocabulary is not None
    settings = replace(trained.settings.model, weights="none")
    words = trained.vocabulary
    model = build_model(settings, len(words), feature_width(split.images), words)
    load_weights(model, trained)
    return model


def assess(
    trained: Trained,
    data: Data,
    root: Path | None,
    part: str,
    cpu: bool = False,
    bank_temperature: float | None = None,
) -> dict[str, Any]:
    """The retrieval results on a split, by protocol; with a temperature also those with a query bank of
    the training split, which nothing is selected by.
    """
    check_bank(bank_temperature, trained.settings.loss.measure)
    splits = read_splits(data, root)
    banked = [] if bank_temperature is None else [splits.train.first(BANK_IMAGES)]
    split, *banked = check_each([getattr(splits, part), *banked])
    assert trained.vocabulary is not None
    model = rebuild(trained, split).to(Accelerator(cpu=cpu).device)
    embedded = embed(model, split, trained.vocabulary)
    if embedded.skipped:
        print(f"{embedded.skipped:,} images were left out as corrupt", file=sys.stderr)
    few = caution({part: len(embedded.images)})
    if few:
        print(few, file=sys.stderr)
    results = protocols(embedded, trained.settings.loss.measure, data.dataset, part)
    for train in banked:
        seen = embed(model, train, trained.vocabulary)
        bank = QueryBank(seen.images, seen.captions, bank_temperature or 0.0)
        results |= protocols_with(bank, embedded, data.dataset, part)
    found = {protocol: record(one) for protocol, one in results.items()}
    if data.dataset == "coco" and part == "test" and importlib.util.find_spec("eccv_caption"):
        from vsepp.release.eccv import extended_metrics

        found |= extended_metrics(embedded, split, trained.settings.loss.measure)
    return found
