"""Batches for losses with hard negatives: P classes with K rows each, no id twice, or rows that are near each other."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from hardneg.checks import check_count
from hardneg.training.batch_sampler import EpochBatches

if TYPE_CHECKING:
    from jaxtyping import Int

__all__ = ["ClassBatches", "NeighbourBatches", "UniqueIdBatches"]


def check_numbers(argument: str, numbers: Tensor, dimensions: int) -> Tensor:
    """Integers on the CPU, as many dimensions as expected, not empty."""
    if not isinstance(numbers, Tensor) or numbers.dtype.is_floating_point:
        raise TypeError(f"{argument}: expected an integer tensor, not {type(numbers).__name__}")
    if numbers.dim() != dimensions or numbers.numel() == 0:
        raise ValueError(
            f"{argument} has shape {tuple(numbers.shape)}: expected {dimensions} dimensions, none empty"
        )
    return numbers.detach().cpu().long()


def shuffled(items: list[int], generator: torch.Generator) -> list[int]:
    """The items in random order."""
    return [items[i] for i in torch.randperm(len(items), generator=generator).tolist()]


class ClassBatches(EpochBatches):
    """P classes with K rows each in every batch (Hermans et al., "In Defense of the Triplet Loss", 2017).

    Classes follow one another in random order, each as often as the others; rows of a class do so too, and come again
    once all have been taken. A class with fewer than K rows repeats some. No class is twice in a batch of all ranks.

    Args:
        labels: the class of each row.
        classes: P, a rank.
        rows: K.
        batches: how many an epoch; None: as many as there are rows for.
        seed, rank, ranks: as in ``EpochBatches``.

    Example:
        >>> sampler = ClassBatches(torch.arange(40) // 4, classes=5, rows=2)
        >>> [len(batch) for batch in sampler]
        [10, 10, 10, 10]
    """

    def __init__(
        self,
        labels: Int[Tensor, "n"],
        classes: int,
        rows: int,
        batches: int | None = None,
        *,
        seed: int = 0,
        rank: int = 0,
        ranks: int = 1,
    ) -> None:
        super().__init__(seed, rank, ranks)
        self.labels = check_numbers("labels", labels, 1)
        self.classes, self.rows = check_count("classes", classes), check_count("rows", rows)
        known = len(self.labels.unique())
        if known < classes * ranks:
            raise ValueError(
                f"{classes} classes on each of {ranks} ranks, but there are {known}: expected as many at least"
            )
        size = classes * rows * ranks
        self.number = (
            max(1, len(labels) // size) if batches is None else check_count("batches", batches)
        )

    def __len__(self) -> int:
        """Batches of an epoch."""
        return self.number

    def global_batches(self, generator: torch.Generator) -> list[list[int]]:
        """See ``EpochBatches``."""
        members: dict[int, list[int]] = {}
        for row, label in enumerate(self.labels.tolist()):
            members.setdefault(label, []).append(row)
        queues: dict[int, deque[int]] = {label: deque() for label in members}
        waiting: deque[int] = deque()
        found = []
        for _ in range(self.number):
            chosen: list[int] = []
            while len(chosen) < self.classes * self.ranks:
                if not waiting:
                    # those of this batch wait longest
                    new = shuffled([x for x in members if x not in chosen], generator)
                    waiting.extend(new + shuffled(chosen, generator))
                label = next((x for x in waiting if x not in chosen), None)
                if label is None:
                    waiting.clear()
                    continue
                waiting.remove(label)
                chosen.append(label)
            found.append(
                [row for label in chosen for row in self.take(label, members, queues, generator)]
            )
        return found

    def take(
        self,
        label: int,
        members: dict[int, list[int]],
        queues: dict[int, deque[int]],
        generator: torch.Generator,
    ) -> list[int]:
        """The next K rows of a class; none twice where it has as many."""
        queue, taken = queues[label], list[int]()
        while len(taken) < self.rows:
            if not queue:
                fresh = shuffled([x for x in members[label] if x not in taken], generator)
                queue.extend(fresh or shuffled(members[label], generator))
            taken.append(queue.popleft())
        return taken


class UniqueIdBatches(EpochBatches):
    """Batches in which no id occurs twice, on any rank: captions of one image are no negatives of each other.

    Every row once an epoch, but for the rows of an id that is left over when too few others are.

    Args:
        ids: the id of each row.
        batch_size: rows, a rank.
        drop_last: leave out a last batch with fewer rows.
        seed, rank, ranks: as in ``EpochBatches``.

    Example:
        >>> sampler = UniqueIdBatches(torch.arange(100) // 5, batch_size=10)
        >>> all(len({row // 5 for row in batch}) == len(batch) for batch in sampler)
        True
    """

    def __init__(
        self,
        ids: Int[Tensor, "n"],
        batch_size: int,
        *,
        drop_last: bool = True,
        seed: int = 0,
        rank: int = 0,
        ranks: int = 1,
    ) -> None:
        super().__init__(seed, rank, ranks)
        self.ids, self.drop_last = check_numbers("ids", ids, 1), drop_last
        self.batch_size = check_count("batch_size", batch_size)
        known = len(self.ids.unique())
        if known < batch_size * ranks and drop_last:
            raise ValueError(
                f"batches of {batch_size} on each of {ranks} ranks, but there are {known} ids: no batch can be filled"
            )

    def global_batches(self, generator: torch.Generator) -> list[list[int]]:
        """See ``EpochBatches``."""
        ids, size = self.ids.tolist(), self.batch_size * self.ranks
        coming = deque(torch.randperm(len(ids), generator=generator).tolist())
        later: deque[int] = deque()
        found = []
        while coming or later:
            batch, seen, again = list[int](), set[int](), deque[int]()
            while len(batch) < size and (coming or later):
                row = later.popleft() if later else coming.popleft()
                if ids[row] in seen:
                    again.append(row)
                else:
                    seen.add(ids[row])
                    batch.append(row)
            later = again + later
            if len(batch) == size or not self.drop_last:
                found.append(batch)
            elif not coming:
                break
        return found


class NeighbourBatches(EpochBatches):
    """Batches of clusters of rows that are near each other, so that they hold each other's hard negatives.

    Clusters grow along the links to mined neighbours from rows in random order; a batch holds several clusters, chosen
    at random. Every row once an epoch.

    Args:
        neighbours: n x k rows that are near each row (``mine(...).indices`` of one set), -1 for none.
        batch_size: rows, a rank.
        cluster_size: rows of a cluster.
        seed, rank, ranks: as in ``EpochBatches``.

    Source: after Thirukovalluru et al., "Breaking the Batch Barrier (B3) of Contrastive Learning via Smart Batch
    Mining", 2025, which clusters with METIS.

    Example:
        >>> from hardneg import TopK, mine
        >>> x = torch.randn(64, 8)
        >>> found = mine(x, x, TopK(4), same_set=True)
        >>> sorted(row for batch in NeighbourBatches(found.indices, 16) for row in batch) == list(range(64))
        True
    """

    def __init__(
        self,
        neighbours: Int[Tensor, "n k"],
        batch_size: int,
        cluster_size: int = 32,
        *,
        seed: int = 0,
        rank: int = 0,
        ranks: int = 1,
    ) -> None:
        super().__init__(seed, rank, ranks)
        self.neighbours = check_numbers("neighbours", neighbours, 2)
        self.batch_size = check_count("batch_size", batch_size)
        self.cluster_size = check_count("cluster_size", cluster_size)
        if int(self.neighbours.max()) >= len(self.neighbours):
            raise ValueError(
                f"neighbours name row {int(self.neighbours.max())} of {len(self.neighbours)}: pass those of one set"
            )

    def __len__(self) -> int:
        """Batches of an epoch."""
        return -(-len(self.neighbours) // (self.batch_size * self.ranks))

    def global_batches(self, generator: torch.Generator) -> list[list[int]]:
        """See ``EpochBatches``."""
        links = self.neighbours.tolist()
        free = [True] * len(links)
        clusters = []
        for seed in torch.randperm(len(links), generator=generator).tolist():
            if free[seed]:
                clusters.append(grow(seed, links, free, self.cluster_size))
        order = torch.randperm(len(clusters), generator=generator).tolist()
        rows = [row for i in order for row in clusters[i]]
        size = self.batch_size * self.ranks
        return [rows[i : i + size] for i in range(0, len(rows), size)]


def grow(seed: int, links: list[list[int]], free: list[bool], size: int) -> list[int]:
    """A cluster of free rows around one, nearest links first."""
    free[seed] = False
    cluster, reached = [seed], deque([seed])
    while reached:
        for near in links[reached.popleft()]:
            if len(cluster) == size:
                return cluster
            if near >= 0 and free[near]:
                free[near] = False
                cluster.append(near)
                reached.append(near)
    return cluster
