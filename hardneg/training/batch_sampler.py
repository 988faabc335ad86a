"""``EpochBatches``: batches that follow from the seed, the epoch and the rank alone, and go on where they stopped."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator
from typing import Any

import torch
from torch.utils.data import Sampler

from hardneg.checks import check_count

__all__ = ["EpochBatches"]


class EpochBatches(Sampler[list[int]]):
    """Base of the batch samplers, for ``DataLoader(batch_sampler=...)``.

    All batches of an epoch are made at once, from ``seed + epoch``: every process makes the same ones and takes its
    part, and a run that goes on later makes them again. Subclasses say how: ``global_batches``.

    Args:
        seed: of the order.
        rank, ranks: which of how many processes this is; a batch of all is ``ranks`` consecutive parts of one size.

    Attributes:
        epoch: which epoch the next ``iter`` starts, or goes on with; advances when one ends.
        start: how many of its batches have been handed out.
    """

    def __init__(self, seed: int = 0, rank: int = 0, ranks: int = 1) -> None:
        self.seed = check_count("seed", seed, at_least=0)
        self.ranks, self.rank = check_count("ranks", ranks), check_count("rank", rank, at_least=0)
        if rank >= ranks:
            raise ValueError(f"rank is {rank} of {ranks}: expected at most {ranks - 1}")
        self.epoch = self.start = 0

    @abstractmethod
    def global_batches(self, generator: torch.Generator) -> list[list[int]]:
        """The batches of all ranks of an epoch, each of ``ranks`` times the batch size."""

    def batches(self) -> list[list[int]]:
        """This rank's batches of the current epoch."""
        generator = torch.Generator().manual_seed(self.seed + self.epoch)
        found = self.global_batches(generator)
        return [part(batch, self.rank, self.ranks) for batch in found]

    def __iter__(self) -> Iterator[list[int]]:
        batches = self.batches()
        while self.start < len(batches):
            self.start += 1
            yield batches[self.start - 1]
        self.epoch, self.start = self.epoch + 1, 0

    def __len__(self) -> int:
        """Batches of an epoch."""
        return len(self.batches())

    def set_epoch(self, epoch: int) -> None:
        """Start an epoch, as ``DistributedSampler`` does; the one that is under way goes on."""
        if epoch != self.epoch:
            self.epoch, self.start = check_count("epoch", epoch, at_least=0), 0

    def state_dict(self, trained: int | None = None) -> dict[str, int]:
        """Where to go on.

        Args:
            trained: batches of this epoch that were trained; None: those handed out, of which the workers of a
                ``DataLoader`` hold some in advance.
        """
        return {"epoch": self.epoch, "start": self.start if trained is None else trained}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on there."""
        self.epoch = check_count("epoch", state["epoch"], at_least=0)
        self.start = check_count("start", state["start"], at_least=0)


def part(batch: list[int], rank: int, ranks: int) -> list[int]:
    """A rank's consecutive part, as long as the others' or one longer."""
    size, more = divmod(len(batch), ranks)
    start = rank * size + min(rank, more)
    return batch[start : start + size + (rank < more)]
