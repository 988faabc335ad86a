"""Gradient caching on two ranks: one average a step, one loss over both, buffers as DDP hands them out."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from every_loss import numbers
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.nn.parallel import DistributedDataParallel
from towers import assert_alike, gradients, sides, tower, two_towers

from hardneg import AcrossRanks, GradCache, InfoNCELoss, Learned

SHARDS = {"even": (8, 8), "uneven": (3, 13), "one row": (15, 1)}
ACROSS = [(8, 8), (3, 13), (16, 0)]


def on_a_rank(rank: int, meeting: str, folder: str) -> None:
    """One step on each layout of shards; writes gradients and how often they were averaged."""
    torch.set_num_threads(1)
    dist.init_process_group("gloo", f"file://{meeting}", rank=rank, world_size=2)
    found = {}
    for name, shard in SHARDS.items():
        inputs = [x.split(shard)[rank] for x in sides(16, 16)]
        for shared in (False, True):
            averaged: list[int] = []
            modules = [DistributedDataParallel(m) for m in two_towers()][: 1 if shared else 2]
            for module in modules:
                module.register_comm_hook(averaged, counting)
            both = modules * 2 if shared else modules
            rows = [inputs[0]] * 2 if shared else inputs
            loss = partial(weighted, weight=shard[rank])
            value = GradCache(*both, chunk_size=4).backward(loss, *rows)
            found[name, shared] = value, gradients(*modules), len(averaged)
    across = [across_on_a_rank(rank, shard) for shard in ACROSS] + [sharded_on_a_rank(rank)]
    static = static_on_a_rank(rank)
    torch.save((found, buffers_on_a_rank(rank), across, static), Path(folder) / f"{rank}.pt")
    dist.destroy_process_group()


def buffers_on_a_rank(rank: int) -> list[Tensor]:
    """Two steps through a batch norm whose buffers begin unlike on the ranks, in 1 and 3 chunks."""
    module = tower(5, norm=nn.BatchNorm1d(32)).double()
    module[2].running_mean.fill_(rank)
    cache = GradCache(DistributedDataParallel(module), chunk_size=4)
    for step in range(2):
        cache.backward(lambda x: x.square().mean(), numbers(4 + 8 * rank, 5, step, torch.float64))
    return [module[0].weight.detach(), module[0].bias.detach(), *module.buffers()]


def static_on_a_rank(rank: int) -> str:
    """A static graph in one chunk as without it, for several steps; the error of several chunks."""
    rows = sides(16, 16)[0].split((3, 13))[rank]
    found = []
    for static in (False, True):
        module = DistributedDataParallel(two_towers()[0], static_graph=static)
        for step in range(3):
            GradCache(module, chunk_size=16).backward(torch.sum, rows + step)
        found.append(gradients(module))
    assert_alike(found[1], found[0])
    module = DistributedDataParallel(two_towers()[0], static_graph=True)
    try:
        GradCache(module, chunk_size=4).backward(torch.sum, rows)
    except ValueError as error:
        return str(error)
    return ""


def across_on_a_rank(rank: int, shard: tuple[int, int]) -> tuple[Tensor, list[Tensor]]:
    """A step of the global loss, with a temperature that is learnt outside the wrapped encoders."""
    modules = [DistributedDataParallel(m) for m in two_towers()]
    loss = AcrossRanks(InfoNCELoss(Learned(0.07)).double())
    inputs = [x.split(shard)[rank] for x in sides(16, 16)]
    ids = (torch.arange(16) % 7).split(shard)[rank]
    bound = partial(loss, query_ids=ids, candidate_ids=ids)
    value = GradCache(*modules, chunk_size=4).backward(bound, *inputs)
    return value, gradients(*modules, loss)


def sharded_on_a_rank(rank: int) -> tuple[Tensor, list[Tensor]]:
    """A step of the global loss with weights that the ranks share out among them."""
    modules = [fully_shard(m, mesh=init_device_mesh("cpu", (2,))) for m in two_towers()]
    loss = AcrossRanks(InfoNCELoss(Learned(0.07)).double())
    inputs = [x.split(8)[rank] for x in sides(16, 16)]
    ids = (torch.arange(16) % 7).split(8)[rank]
    bound = partial(loss, query_ids=ids, candidate_ids=ids)
    value = GradCache(*modules, chunk_size=4).backward(bound, *inputs)
    return value, [*(g.full_tensor() for g in gradients(*modules)), *gradients(loss)]


def counting(averaged: list[int], bucket):
    """The usual average, counted."""
    averaged.append(bucket.index())
    x = bucket.buffer().div_(dist.get_world_size())
    work = dist.all_reduce(x, async_op=True).get_future()
    return work.then(lambda future: future.value()[0])


def weighted(a: Tensor, b: Tensor, weight: int) -> Tensor:
    """A rank's own loss, made unlike the other's."""
    return InfoNCELoss()(a, b + 0.1) * weight


@pytest.fixture(scope="module")
def of_ranks(tmp_path_factory: pytest.TempPathFactory) -> list[tuple]:
    """What both ranks have written."""
    folder = tmp_path_factory.mktemp("ranks")
    mp.spawn(on_a_rank, args=(str(folder / "meeting"), str(folder)), nprocs=2)
    return [torch.load(folder / f"{rank}.pt") for rank in range(2)]


def test_ranks_average_once_a_step(of_ranks: list[tuple]) -> None:
    """Two ranks with different numbers of chunks; the average of their gradients, one bucket a module."""
    for (name, shared), (_, ours, averaged) in of_ranks[0][0].items():
        modules = list(two_towers())[: 1 if shared else 2]
        for rank in range(2):
            inputs = [x.split(SHARDS[name])[rank] for x in sides(16, 16)]
            rows = [inputs[0]] * 2 if shared else inputs
            both = modules * 2 if shared else modules
            value = weighted(*[m(x) for m, x in zip(both, rows, strict=True)], SHARDS[name][rank])
            (value / 2).backward()
            torch.testing.assert_close(of_ranks[rank][0][name, shared][0], value.detach())
        assert_alike(ours, gradients(*modules))
        assert_alike(of_ranks[1][0][name, shared][1], ours, 0)
        assert averaged == len(modules)


def test_a_static_graph_is_refused_on_every_rank(of_ranks: list[tuple]) -> None:
    """Also where a rank has one chunk."""
    for *_, said in of_ranks:
        assert "static_graph=True) would be called 4 times in this step" in said


@pytest.mark.parametrize("number", range(4), ids=[*map(str, ACROSS), "fully_shard"])
def test_the_global_loss_has_the_gradients_of_one_process(
    of_ranks: list[tuple], number: int
) -> None:
    """Encoders under DDP or FSDP, loss under AcrossRanks: nothing is scaled by 1 / ranks."""
    modules, loss = two_towers(), InfoNCELoss(Learned(0.07)).double()
    ids = torch.arange(16) % 7
    embeddings = [m(x) for m, x in zip(modules, sides(16, 16), strict=True)]
    expected = loss(*embeddings, query_ids=ids, candidate_ids=ids)
    expected.backward()
    for rank in range(2):
        value, found = of_ranks[rank][2][number]
        torch.testing.assert_close(value, expected.detach(), rtol=1e-12, atol=0)
        assert_alike(found, gradients(*modules, loss))


def test_every_step_begins_with_the_first_ranks_buffers(of_ranks: list[tuple]) -> None:
    """And then each chunk moves them once."""
    found = [buffers for _, buffers, *_ in of_ranks]
    weight, bias, *_ = found[0]
    layer, norms = nn.Linear(5, 32).double(), [nn.BatchNorm1d(32).double() for _ in range(2)]
    layer.load_state_dict({"weight": weight, "bias": bias})
    for step in range(2):
        norms[1].load_state_dict(norms[0].state_dict())
        for rank in range(2):
            for part in numbers(4 + 8 * rank, 5, step, torch.float64).split(4):
                norms[rank](layer(part).tanh())
    for rank in range(2):
        for a, b in zip(found[rank][2:], norms[rank].buffers(), strict=True):
            torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-14)
