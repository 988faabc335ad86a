"""The order of the training pairs, and each process's part of every batch."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from accelerate import Accelerator
from accelerate.data_loader import prepare_data_loader
from torch.utils.data import DataLoader, Sampler

from vsepp.data import Batch, Pairs, view_seed


class ShuffledBatches(Sampler[list[int]]):
    """Batches of an order that (seed, epoch) fixes, from any position on; of several processes,
    this one's part of each. The last batch may be short, and a part of it empty.
    """

    def __init__(
        self, pairs: Pairs, batch_size: int, seed: int, rank: int = 0, ranks: int = 1
    ) -> None:
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


def training_loader(
    batches: ShuffledBatches, workers: int, accelerator: Accelerator
) -> DataLoader[Batch]:
    """Batches on the process's device; an own generator keeps worker start-up out of torch's.

    accelerate places them and no more: it would hand whole batches to processes in turn, and repeat
    some to make them even.
    """
    loader = DataLoader(
        batches.pairs,
        batch_sampler=batches,
        collate_fn=as_it_is,
        num_workers=workers,
        pin_memory=torch.cuda.is_available(),
        generator=torch.Generator().manual_seed(batches.seed),
    )
    one = {"num_processes": 1, "process_index": 0}
    return prepare_data_loader(loader, accelerator.device, put_on_device=True, **one)


def as_it_is(batch: Batch) -> Batch:
    """``__getitems__`` has already made the batch."""
    return batch
