"""Gradient caching that returns a loss, on two ranks: wrapped encoders, one wrapper around all, accumulation, FSDP."""

from __future__ import annotations

from contextlib import nullcontext
from functools import partial
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from test_grad_cache_ranks import counting, weighted
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.nn.parallel import DistributedDataParallel
from towers import assert_alike, gradients, sides, two_towers

from hardneg import AcrossRanks, GradCache, InfoNCELoss, Learned

SHARDS = [(8, 8), (3, 13)]
IDS = torch.arange(16) % 7


class Step(nn.Module):
    """Encoders and loss in one module, as Lightning's strategies wrap it."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = two_towers()
        self.loss = AcrossRanks(InfoNCELoss(Learned(0.07)).double())

    def forward(self, x: Tensor, y: Tensor, ids: Tensor) -> Tensor:
        bound = partial(self.loss, query_ids=ids, candidate_ids=ids)
        return GradCache(self.first, self.second, chunk_size=4)(bound, x, y)


def on_a_rank(rank: int, meeting: str, folder: str) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", f"file://{meeting}", rank=rank, world_size=2)
    found = {
        "wrapped": [wrapped(rank, shard) for shard in SHARDS],
        "around": [around(rank, shard) for shard in SHARDS],
        "sharded": [sharded(rank)],
        "accumulated": accumulated(rank),
    }
    static(rank)
    torch.save(found, Path(folder) / f"{rank}.pt")
    dist.destroy_process_group()


def wrapped(rank: int, shard: tuple[int, int]) -> tuple[Tensor, list[Tensor], int]:
    """Every encoder in a wrapper of its own."""
    modules, averaged = [DistributedDataParallel(m) for m in two_towers()], list[int]()
    for module in modules:
        module.register_comm_hook(averaged, counting)
    loss = AcrossRanks(InfoNCELoss(Learned(0.07)).double())
    x, y, ids = (one.split(shard)[rank] for one in (*sides(16, 16), IDS))
    value = GradCache(*modules, chunk_size=4)(partial(loss, query_ids=ids, candidate_ids=ids), x, y)
    value.backward()
    return value.detach(), gradients(*modules, loss), len(averaged)


def around(rank: int, shard: tuple[int, int]) -> tuple[Tensor, list[Tensor], int]:
    """One wrapper around encoders and loss, which sees each parameter once."""
    module, averaged = DistributedDataParallel(Step()), list[int]()
    module.register_comm_hook(averaged, counting)
    value = module(*(one.split(shard)[rank] for one in (*sides(16, 16), IDS)))
    value.backward()
    return value.detach(), gradients(module), len(averaged)


def sharded(rank: int) -> tuple[Tensor, list[Tensor], int]:
    modules = [fully_shard(m, mesh=init_device_mesh("cpu", (2,))) for m in two_towers()]
    loss = AcrossRanks(InfoNCELoss(Learned(0.07)).double())
    x, y, ids = (one.split(8)[rank] for one in (*sides(16, 16), IDS))
    value = GradCache(*modules, chunk_size=4)(partial(loss, query_ids=ids, candidate_ids=ids), x, y)
    value.backward()
    found = [g.full_tensor() for g in gradients(*modules)]
    return value.detach(), [*found, *gradients(loss)], 0


def accumulated(rank: int) -> list[tuple[list[Tensor], int]]:
    """Two batches, the first within ``no_sync``: its backward inside or outside of the block, or in the other form."""
    found = []
    for form in ("outside", "inside", "backward"):
        module, averaged = DistributedDataParallel(two_towers()[0]), list[int]()
        module.register_comm_hook(averaged, counting)
        cache = GradCache(module, module, chunk_size=4)
        for number in range(2):
            x = [sides(8, 8)[0] + rank + number, sides(8, 8)[0] - rank]
            loss = partial(weighted, weight=rank + 1)
            with module.no_sync() if number == 0 else nullcontext():
                if form == "backward":
                    cache.backward(loss, *x)
                    continue
                value = cache(loss, *x)
                if form == "inside":
                    value.backward()
            if form == "outside":
                value.backward()
        found.append((gradients(module), len(averaged)))
    return found


def static(rank: int) -> None:
    """A static graph in one chunk as without it, for several steps."""
    rows, found = sides(16, 16)[0].split((3, 13))[rank], []
    for one in (False, True):
        module = DistributedDataParallel(two_towers()[0], static_graph=one)
        for step in range(3):
            GradCache(module, chunk_size=16)(torch.sum, rows + step).backward()
        found.append(gradients(module))
    assert_alike(found[1], found[0])


@pytest.fixture(scope="module")
def of_ranks(tmp_path_factory: pytest.TempPathFactory) -> list[dict]:
    folder = tmp_path_factory.mktemp("ranks")
    mp.spawn(on_a_rank, args=(str(folder / "meeting"), str(folder)), nprocs=2)
    return [torch.load(folder / f"{rank}.pt") for rank in range(2)]


@pytest.mark.parametrize("way", ["wrapped", "around", "sharded"])
def test_the_global_loss_has_the_gradients_of_one_process(of_ranks: list[dict], way: str) -> None:
    modules, loss = two_towers(), InfoNCELoss(Learned(0.07)).double()
    embeddings = [m(x) for m, x in zip(modules, sides(16, 16), strict=True)]
    expected = loss(*embeddings, query_ids=IDS, candidate_ids=IDS)
    expected.backward()
    for found in of_ranks:
        for value, ours, averaged in found[way]:
            torch.testing.assert_close(value, expected.detach(), rtol=1e-12, atol=0)
            assert_alike(ours, gradients(*modules, loss))
            assert averaged == {"wrapped": 2, "around": 1, "sharded": 0}[way]


def test_accumulation_averages_with_its_last_batch(of_ranks: list[dict]) -> None:
    module = two_towers()[0]
    for rank in range(2):
        for number in range(2):
            x = [sides(8, 8)[0] + rank + number, sides(8, 8)[0] - rank]
            (weighted(*map(module, x), weight=rank + 1) / 2).backward()
    for found in of_ranks:
        for ours, averaged in found["accumulated"]:
            assert_alike(ours, gradients(module))
            assert averaged == 1
