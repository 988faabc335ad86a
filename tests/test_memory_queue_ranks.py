"""One memory queue for several ranks."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from every_loss import numbers
from torch import Tensor, nn

from hardneg import (
    AcrossRanks,
    ContrastiveLoss,
    InfoNCELoss,
    MemoryQueue,
    SigmoidLoss,
    SupConLoss,
    TripletLoss,
)

WIDTH = 4


def batch(rows: int, start: int) -> tuple[Tensor, Tensor]:
    """Embeddings that no other batch has, and their ids."""
    return numbers(rows, WIDTH, seed=start), torch.arange(start, start + rows)


RANKS = 3
SHARDS = [(2, 0, 3), (0, 0, 1), (4, 4, 4), (0, 0, 0), (1, 2, 0), (9, 8, 7)]
ACROSS = [
    ContrastiveLoss(negatives="all"),
    ContrastiveLoss(),
    InfoNCELoss(positives="all"),
    SigmoidLoss(),
    SupConLoss(),
    TripletLoss(positives="all", negatives="all"),
]


def value_of(loss: nn.Module, rows: Tensor, ids: Tensor, extend: Callable) -> Tensor:
    """The loss of these rows against themselves and a queue, of two sides or of one labelled set."""
    if isinstance(getattr(loss, "loss", loss), SupConLoss | TripletLoss):
        return loss(rows, ids, *extend(rows, ids), same_set=True)
    candidates, candidate_ids = extend(rows.flip(1), ids)
    return loss(rows, candidates, query_ids=ids, candidate_ids=candidate_ids)


def queue_and_rows(group: dist.ProcessGroup | None = None) -> tuple[MemoryQueue, Tensor, Tensor]:
    queue = MemoryQueue(8, WIDTH, group=group, dtype=torch.float64)
    return queue, numbers(5, WIDTH, 30, torch.float64), torch.arange(5) * 2 % 3


def on_a_rank(rank: int, meeting: str, folder: str) -> None:
    """Updates by uneven and empty shards, and losses over all ranks; every rank writes what it has."""
    torch.set_num_threads(1)
    dist.init_process_group("gloo", f"file://{meeting}", rank=rank, world_size=RANKS)
    queue, start = MemoryQueue(8, WIDTH, group=dist.group.WORLD), 0
    seen, losses = [], []
    for shard in SHARDS:
        first = start + sum(shard[:rank])
        queue.update(*batch(shard[rank], first))
        start += sum(shard)
        share = queue.extend_share(*batch(2, 1000 + rank))
        seen.append((queue.entries(), queue.extend(*batch(1, 7)), share))
    queue, rows, ids = queue_and_rows(dist.group.WORLD)
    queue.update(numbers(2, WIDTH, 40 + rank, torch.float64), torch.arange(2) + rank)
    for loss in ACROSS:
        mine = rows.split((2, 0, 3))[rank].clone().requires_grad_()
        value = value_of(AcrossRanks(loss), mine, ids.split((2, 0, 3))[rank], queue.extend_share)
        value.backward()
        losses.append((value.detach(), mine.grad / RANKS))
    torch.save((seen, losses), Path(folder) / f"{rank}.pt")
    dist.destroy_process_group()


@pytest.fixture(scope="module")
def of_ranks(tmp_path_factory: pytest.TempPathFactory) -> list[tuple]:
    """What every rank has written."""
    folder = tmp_path_factory.mktemp("ranks")
    mp.spawn(on_a_rank, args=(str(folder / "meeting"), str(folder)), nprocs=RANKS)
    return [torch.load(folder / f"{rank}.pt") for rank in range(RANKS)]


def test_ranks_share_one_queue(of_ranks: list[tuple]) -> None:
    """The queue of a single process that puts in the shards in the order of ranks."""
    queue, start = MemoryQueue(8, WIDTH), 0
    for step, shard in enumerate(SHARDS):
        for rows in shard:
            queue.update(*batch(rows, start))
            start += rows
        held, shares = queue.entries(), []
        for rank in range(RANKS):
            entries, extended, (rows, ids) = of_ranks[rank][0][step]
            assert torch.equal(entries[0], held[0])
            assert torch.equal(entries[1], held[1])
            assert torch.equal(extended[1], torch.cat([torch.tensor([7]), held[1]]))
            assert ids[:2].tolist() == [1000 + rank, 1001 + rank]
            shares.append((rows[2:], ids[2:]))
        assert torch.equal(torch.cat([rows for rows, _ in shares]), held[0])
        assert torch.equal(torch.cat([ids for _, ids in shares]), held[1])


@pytest.mark.parametrize("number", range(len(ACROSS)), ids=lambda n: type(ACROSS[n]).__name__)
def test_losses_over_ranks_meet_every_entry_once(of_ranks: list[tuple], number: int) -> None:
    """Value and gradient of one process with the whole queue."""
    queue, rows, ids = queue_and_rows()
    for rank in range(RANKS):
        queue.update(numbers(2, WIDTH, 40 + rank, torch.float64), torch.arange(2) + rank)
    expected = value_of(ACROSS[number], rows.requires_grad_(), ids, queue.extend)
    expected.backward()
    found = [losses[number] for _, losses in of_ranks]
    for value, _ in found:
        torch.testing.assert_close(value, expected.detach(), rtol=1e-12, atol=1e-12)
    gradient = torch.cat([gradient for _, gradient in found])
    torch.testing.assert_close(gradient, rows.grad, rtol=1e-12, atol=1e-12)
