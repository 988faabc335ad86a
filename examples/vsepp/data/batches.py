"""The order of the training pairs, and each process's part of every batch."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.data_loader import prepare_data_loader
from torch.utils.data import DataLoader, Dataset, Sampler

from vsepp.data.pairs import Batch, Pairs, view_seed
from vsepp.data.workers import leave_signals_to_the_trainer
from vsepp.errors import InputError
from vsepp.settings import Schedule


class ShuffledBatches(Sampler[list[int]]):
    """Batches of an order that (seed, epoch) fixes, from any position on; of several processes,
    this one's part of each. A last batch may be short, and a part of it empty.
    """

    def __init__(self, pairs: Pairs, schedule: Schedule, rank: int = 0, ranks: int = 1) -> None:
        self.pairs, self.size, self.seed = pairs, schedule.batch_size, schedule.seed
        self.each, self.rank, self.ranks, self.done = schedule.captions_each, rank, ranks, 0
        self.count = sum(1 for _ in self.batches())

    def start(self, epoch: int, done: int = 0) -> None:
        """Go to an epoch, of which ``done`` batches have been trained on."""
        self.pairs.epoch, self.done = epoch, done

    def __len__(self) -> int:
        return self.count

    def __iter__(self) -> Iterator[list[int]]:
        for batch in islice(self.batches(), self.done, None):
            first, last = (len(batch) * one // self.ranks for one in (self.rank, self.rank + 1))
            yield batch[first:last]

    def batches(self) -> Iterator[list[int]]:
        """The batches of the epoch, of all processes together."""
        seed = view_seed(self.seed, self.pairs.epoch, 0)
        generator = torch.Generator().manual_seed(seed)
        if not self.each:
            order = torch.randperm(len(self.pairs), generator=generator).tolist()
            yield from chunks(order, self.size)
            return
        for order in distinct_rounds(self.pairs.split.image_of, self.each, generator):
            yield from chunks(order, self.size // self.each * self.each)


def check_sizes(pairs: int, schedule: Schedule) -> None:
    """Refuse a batch that the data set, or its own parts, do not fit."""
    size, each = schedule.batch_size, schedule.captions_each
    if size > pairs:
        raise InputError(
            f"--batch-size is {size:,}: expected at most {pairs:,}, the number of training captions"
        )
    if each > size:
        raise InputError(f"--captions-each is {each}: expected at most --batch-size, {size}")


def chunks(order: list[int], size: int) -> Iterator[list[int]]:
    """Consecutive parts of an order."""
    for start in range(0, len(order), size):
        yield order[start : start + size]


def distinct_rounds(
    image_of: np.ndarray, each: int, generator: torch.Generator
) -> Iterator[list[int]]:
    """Every caption once, in rounds: a round holds the next captions of every image that has some
    left, so many together, the images in random order.
    """
    shuffled = torch.randperm(len(image_of), generator=generator).numpy()
    by_image = shuffled[np.argsort(image_of[shuffled], kind="stable")]
    counts = np.bincount(image_of)
    ends = counts.cumsum()
    for taken in range(0, int(counts.max()), each):
        left = np.flatnonzero(counts > taken)
        left = left[torch.randperm(len(left), generator=generator).numpy()]
        starts = ends[left] - counts[left] + taken
        stops = np.minimum(starts + each, ends[left])
        parts = (by_image[a:b] for a, b in zip(starts, stops, strict=True))
        yield np.concatenate([*parts]).tolist()


class Loader:
    """Batches of a data loader; an error that a worker process met is raised here, as one line.

    torch would raise it with the worker's whole traceback for a message.
    """

    def __init__(self, batches: DataLoader[Any], order: ShuffledBatches) -> None:
        self.batches, self.order = batches, order

    def __len__(self) -> int:
        return len(self.batches)

    def __iter__(self) -> Iterator[Batch]:
        # A part of an epoch, or of a batch, may well hold no picture that can be decoded.
        whole = self.order.done == 0 and self.order.ranks == 1
        pairs = skipped = 0
        for batch in self.batches:
            if isinstance(batch, InputError):
                raise batch
            pairs, skipped = pairs + len(batch.image_ids), skipped + batch.skipped
            yield batch
        if whole and skipped and not pairs:
            raise InputError(
                f"not one training picture could be decoded in this epoch ({skipped:,} pairs): they "
                "could when the run began; expected the folder of pictures to stay"
            )


class Told(Dataset[Any]):
    """Pairs whose errors about a file are handed over instead of raised."""

    def __init__(self, pairs: Pairs) -> None:
        self.pairs = pairs

    def __len__(self) -> int:
        return len(self.pairs)

    def __getitems__(self, picks: list[int]) -> Batch | InputError:
        """The batch, or why there is none."""
        try:
            return self.pairs.__getitems__(picks)
        except InputError as error:
            return error


def training_loader(batches: ShuffledBatches, workers: int, accelerator: Accelerator) -> Loader:
    """Batches on the process's device; an own generator keeps worker start-up out of torch's.

    accelerate places them and no more: it would hand whole batches to processes in turn, and repeat
    some to make them even.
    """
    on_gpu = accelerator.device.type == "cuda"
    loader = DataLoader(
        Told(batches.pairs),
        batch_sampler=batches,
        collate_fn=as_it_is,
        num_workers=workers,
        pin_memory=on_gpu,
        generator=torch.Generator().manual_seed(batches.seed),
        worker_init_fn=leave_signals_to_the_trainer,
    )
    one = {"num_processes": 1, "process_index": 0}
    # from pinned memory a copy goes on beside the step under way
    placed = prepare_data_loader(
        loader, accelerator.device, put_on_device=True, non_blocking=on_gpu, **one
    )
    return Loader(placed, batches)


def as_it_is(batch: Batch | InputError) -> Batch | InputError:
    """``__getitems__`` has already made the batch."""
    return batch
