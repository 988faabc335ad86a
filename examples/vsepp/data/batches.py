"""The order of the training pairs, and each process's part of every batch."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.data_loader import prepare_data_loader
from torch.utils.data import DataLoader, Dataset, Sampler

from vsepp.data.pairs import Batch, Pairs, view_seed
from vsepp.data.workers import leave_signals_to_the_trainer
from vsepp.errors import InputError


class ShuffledBatches(Sampler[list[int]]):
    """Batches of an order that (seed, epoch) fixes, from any position on; of several processes,
    this one's part of each. The last batch may be short, and a part of it empty.
    """

    def __init__(
        self, pairs: Pairs, batch_size: int, seed: int, rank: int = 0, ranks: int = 1
    ) -> None:
        if batch_size > len(pairs):
            raise InputError(
                f"--batch-size is {batch_size:,}: expected at most {len(pairs):,}, the number of "
                "training captions"
            )
        self.pairs, self.batch_size, self.seed = pairs, batch_size, seed
        self.rank, self.ranks, self.done = rank, ranks, 0

    def start(self, epoch: int, done: int = 0) -> None:
        """Go to an epoch, of which ``done`` batches have been trained on."""
        self.pairs.epoch, self.done = epoch, done

    def __len__(self) -> int:
        return -(-len(self.pairs) // self.batch_size)

    def __iter__(self) -> Iterator[list[int]]:
        generator = torch.Generator().manual_seed(view_seed(self.seed, self.pairs.epoch, 0))
        order = torch.randperm(len(self.pairs), generator=generator).tolist()
        for start in range(self.done * self.batch_size, len(order), self.batch_size):
            batch = order[start : start + self.batch_size]
            first, last = (len(batch) * one // self.ranks for one in (self.rank, self.rank + 1))
            yield batch[first:last]


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
            pairs, skipped = pairs + len(batch.lengths), skipped + batch.skipped
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
    loader = DataLoader(
        Told(batches.pairs),
        batch_sampler=batches,
        collate_fn=as_it_is,
        num_workers=workers,
        pin_memory=torch.cuda.is_available(),
        generator=torch.Generator().manual_seed(batches.seed),
        worker_init_fn=leave_signals_to_the_trainer,
    )
    one = {"num_processes": 1, "process_index": 0}
    placed = prepare_data_loader(loader, accelerator.device, put_on_device=True, **one)
    return Loader(placed, batches)


def as_it_is(batch: Batch | InputError) -> Batch | InputError:
    """``__getitems__`` has already made the batch."""
    return batch
