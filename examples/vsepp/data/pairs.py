"""From a folder to pairs: which reader reads what, and how a batch of pairs is made."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from vsepp.data.annotations import Annotated, joined, read_karpathy
from vsepp.data.captions import shortened
from vsepp.data.coco_annotations import read_coco_ids
from vsepp.data.images import Photographs, View
from vsepp.data.own.reading import read_own
from vsepp.data.picture_folder import PictureFolder, leads_out
from vsepp.data.precomp import read_precomp
from vsepp.data.scenes import draw_scenes
from vsepp.data.splits import Split, Splits
from vsepp.data.vocabulary import PAD, Vocabulary, build_vocabulary, check_known
from vsepp.data.word_vectors import read_more_text
from vsepp.errors import InputError, MissingInputError
from vsepp.settings import Data

FOLDERS = {"coco": "coco", "flickr30k": "f30k", "flickr8k": "f8k"}
ANNOTATIONS = {
    "coco": "dataset_coco.json",
    "flickr30k": "dataset_flickr30k.json",
    "flickr8k": "dataset_flickr8k.json",
}
COCO_DEV_IMAGES = 1_000
PARTS = ("train", "dev", "test")


def read_splits(settings: Data, root: Path | None) -> Splits:
    """The data set that the settings name, from the folder ``root``; scenes need none."""
    if settings.dataset == "scenes":
        return draw_scenes(settings.scene_seed, settings.train_images, settings.image_size)
    if settings.dataset == "own":
        splits = read_own(settings, root)
    elif settings.layout == "precomp":
        folder = data_folder(settings, root)
        precomp = folder.parent / (settings.precomp or f"{folder.name}_precomp")
        # names that --images is given for are looked up in that folder alone
        within = () if settings.images else None
        pictures = PictureFolder(Path(settings.images or folder / "images"), within)
        splits = read_precomp(precomp, pictures, settings.mirror)
    else:
        splits = read_raw(settings, data_folder(settings, root))
    train = splits.train.first(settings.train_images)
    parts = {"train": train, "dev": splits.dev, "test": splits.test}
    return Splits(**{name: cut(part, settings.max_words) for name, part in parts.items()})


def data_folder(settings: Data, root: Path | None) -> Path:
    """The folder of a data set in the folder of data sets; it need not exist."""
    name = FOLDERS[settings.dataset]
    if root is None:
        raise InputError(
            f"{settings.dataset} needs --data DIR, the folder that holds {name}_precomp/ or {name}/"
        )
    if not root.is_dir():
        raise MissingInputError(f"no folder {root}: --data is the folder of the data sets")
    if settings.precomp and leads_out(settings.precomp):
        raise InputError(f"--precomp is {settings.precomp!r}: expected a folder inside --data")
    return root / name


def cut(split: Split, max_words: int) -> Split:
    """The split with its captions cut at so many words; a note says how many were longer."""
    captions, longer = shortened(split.captions, max_words)
    if not longer:
        return split
    note = (
        f"{longer:,} captions are longer than {max_words:,} words and are cut there (--max-words)"
    )
    return replace(split, captions=captions, notes=(*split.notes, note))


def read_raw(settings: Data, folder: Path) -> Splits:
    """Images with annotations; COCO validates on its first 1,000 dev images, as the paper."""
    # only raw images need torchvision
    from vsepp.data.transforms import views

    parts = read_annotations(settings.dataset, folder)
    if settings.restval and "restval" not in parts:
        raise InputError(
            f"--restval: {parts['train'].where} stands beside no split restval; only COCO has one"
        )
    train = joined([parts["train"], parts["restval"]]) if settings.restval else parts["train"]
    train_view, test_view = views(settings.crop, settings.image_size, *settings.colour_scale())

    def opened(part: Annotated) -> Split:
        return photographed(part, train_view, test_view, settings.skip_corrupt)

    dev = opened(parts["dev"])
    if settings.dataset == "coco":
        dev = dev.first(COCO_DEV_IMAGES)
    return shared_noted(Splits(opened(train), dev, opened(parts["test"])))


def shared_noted(splits: Splits) -> Splits:
    """The splits, with a note where training sees pictures of dev or test."""
    seen = set(splits.train.images.paths)
    notes = []
    for name, part in (("dev", splits.dev), ("test", splits.test)):
        shared = sum(path in seen for path in part.images.paths)
        notes += [f"{shared:,} pictures are in {name} too"] if shared else []
    train = replace(splits.train, notes=(*splits.train.notes, *notes))
    return Splits(train, splits.dev, splits.test)


def read_annotations(dataset: str, folder: Path) -> dict[str, Annotated]:
    """The splits train, dev, test (and COCO's restval) from whichever annotation file is there."""
    karpathy = folder / ANNOTATIONS[dataset]
    if not folder.is_dir():
        raise MissingInputError(
            f"no folder {folder}: --data is the folder that holds {folder.name}/. Expected "
            f"{folder}/images/ and {karpathy}; or choose --layout precomp"
        )
    if dataset == "coco" and not karpathy.is_file():
        return read_coco_ids(folder)
    parts = read_karpathy(karpathy, folder / "images")
    found = ", ".join(parts)
    if {"val", "dev"} <= set(parts):
        raise InputError(f"{karpathy} has both a split val and a split dev: expected one of them")
    parts["dev"] = parts.pop("val", parts.get("dev"))
    lacking = [name for name in PARTS if parts.get(name) is None]
    if lacking:
        raise InputError(
            f"{karpathy} has no images of split {', '.join(lacking)}: is it complete? It has "
            f"{found}; expected train, val (or dev) and test"
        )
    return parts


def photographed(part: Annotated, train_view: View, test_view: View, skip_corrupt: bool) -> Split:
    """A split whose images are decoded on demand."""
    return Split(
        Photographs(part.paths, train_view, test_view, skip_corrupt),
        part.captions,
        part.image_of,
        part.where,
        part.image_keys,
        part.caption_keys,
    )


class Batch(NamedTuple):
    """Pairs: row i of each belong together. ``skipped`` counts images left out as corrupt."""

    images: Tensor
    words: Tensor
    lengths: Tensor
    image_ids: Tensor
    skipped: int = 0
    own_ids: Tensor | None = None
    """Where pairs have own negatives: the numbers of their images, ``2 x pairs x count``, of captions
    and of images. Their rows follow those of the pairs.
    """


Own = tuple[Tensor, Tensor, Tensor]
OwnOf = Callable[[Sequence[int]], Own | None]
"""Rows of captions and of images that are own negatives of these pairs, and ``own_ids`` of a batch."""


def no_own_negatives(picks: Sequence[int]) -> None:
    """Nothing for any pair."""


class Pairs(Dataset[Batch]):
    """Every caption with its image. A random crop depends on (seed, epoch, caption) alone.

    So neither the number of workers nor an interruption changes what a run sees.
    """

    def __init__(self, split: Split, vocabulary: Vocabulary, seed: int) -> None:
        self.split, self.seed, self.epoch = split, seed, 0
        self.own_of: OwnOf = no_own_negatives
        self.words = [torch.tensor(vocabulary.encode(caption)) for caption in split.captions]

    def __len__(self) -> int:
        return len(self.words)

    def __getitems__(self, picks: Sequence[int]) -> Batch:
        """A batch of these captions and their images."""
        rows = self.split.image_of[picks]
        seeds = (view_seed(self.seed, self.epoch, pick) for pick in picks)
        images, kept = self.split.images.batch(rows, seeds)
        said = [self.words[picks[position]] for position in kept]
        ids = torch.from_numpy(np.ascontiguousarray(rows[kept]))
        own = self.own_of(picks)
        if own is not None:
            captions, further, own_ids = own
            images = torch.cat([images, self.split.images.batch(further.numpy(), None)[0]])
            said += [self.words[row] for row in captions.tolist()]
        words, lengths = padded(said)
        skipped = len(picks) - len(kept)
        return Batch(images, words, lengths, ids, skipped, None if own is None else own_ids)


def view_seed(seed: int, epoch: int, pick: int) -> int:
    """A number that no other (seed, epoch, caption) shares, for all practical purposes."""
    return int(np.random.SeedSequence([seed, epoch, pick]).generate_state(1)[0])


def padded(words: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    """Word ids padded at the end, and the lengths."""
    lengths = torch.tensor([len(one) for one in words])
    if not words:
        return torch.empty(0, 0, dtype=torch.int64), lengths
    return torch.nn.utils.rnn.pad_sequence(
        list(words), batch_first=True, padding_value=PAD
    ), lengths


def vocabulary_of(data: Data, splits: Splits, first_stage: Vocabulary | None = None) -> Vocabulary:
    """The vocabulary file that is asked for, the words of the model that a second stage starts
    from (its word vectors mean nothing else), or those of the training captions.
    """
    if data.vocabulary:
        vocabulary = Vocabulary.load(Path(data.vocabulary))
    elif first_stage is not None:
        vocabulary = first_stage
    else:
        read = "" if data.dataset == "own" else f", {data.layout}"
        made_from = f"training captions of {data.dataset}{read}"
        more = [one for group in read_more_text(data.more_text) for one in group]
        captions = [*splits.train.captions, *more]
        vocabulary = build_vocabulary(captions, data.tokenizer, data.threshold, made_from)
    for name in PARTS:
        part = getattr(splits, name)
        check_known(vocabulary, part.captions, part.where)
    return vocabulary
