"""Copies and pickles of modules that hold a process group."""

from __future__ import annotations

import copy
import io
import pickle
from typing import Any

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from process_groups import ProcessGroups
from shards import numbers
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from hardneg import AcrossRanks, InfoNCELoss, Learned, MemoryQueue


class Model(nn.Module):
    """An encoder with a loss over ranks, whose temperature is learnt, and a queue that ranks share."""

    def __init__(self, group: Any, ring: bool = False) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.encoder = nn.Linear(4, 4).double()
        loss = InfoNCELoss(Learned(0.07)).double()
        self.loss = AcrossRanks(loss, group=group, ring=ring)
        self.queue = MemoryQueue(8, 4, group=group, dtype=torch.float64)

    def forward(self, x: Tensor, ids: Tensor) -> Tensor:
        rows, numbers_of_rows = self.queue.extend_share(self.encoder(x), ids)
        value = self.loss(x, rows, query_ids=ids, candidate_ids=numbers_of_rows)
        self.queue.update(rows[: len(x)], ids)
        return value


def through_torch_save(model: nn.Module) -> nn.Module:
    buffer = io.BytesIO()
    torch.save(model, buffer)
    buffer.seek(0)
    return torch.load(buffer, weights_only=False)


def through_pickle(model: nn.Module) -> nn.Module:
    return pickle.loads(pickle.dumps(model))


WAYS = (copy.deepcopy, through_pickle, through_torch_save)


def trained(model: nn.Module, rank: int) -> list[Tensor]:
    """Two steps: what it says, its gradients and buffers."""
    found = []
    for step in range(2):
        x, ids = numbers(3 + rank, 4, 10 * step + rank), torch.arange(3 + rank) + 100 * step + rank
        model.zero_grad()
        value = model(x, ids)
        value.backward()
        found += [value.detach(), *(p.grad.clone() for p in model.parameters())]
    return found + [b.clone() for b in model.buffers()]


def copied(rank: int, size: int) -> None:
    for ring in (False, True):
        expected = trained(Model(dist.group.WORLD, ring), rank)
        for way in WAYS:
            model = Model(dist.group.WORLD, ring)
            twin = way(model)
            assert repr(twin) == repr(model)
            assert twin.queue.group is dist.group.WORLD
            torch.testing.assert_close(trained(twin, rank), expected, rtol=0, atol=0)
            torch.testing.assert_close(trained(model, rank), expected, rtol=0, atol=0)


def test_a_copy_does_as_the_model_does_on_every_rank(groups: ProcessGroups) -> None:
    groups(2)(copied)


def of_some_ranks(rank: int, size: int) -> str:
    """A group of two of three: copies share it, a pickle asks for it."""
    group = dist.new_group([1, 2])
    model = Model(group)
    if rank == 0:
        copy.deepcopy(model), pickle.loads(pickle.dumps(model))
        return ""
    expected = trained(Model(group), rank)
    twin = copy.deepcopy(model)
    assert twin.loss.group is group
    assert copy.copy(model.queue).group is group
    torch.testing.assert_close(trained(twin, rank), expected, rtol=0, atol=0)
    twice = through_pickle(through_pickle(model))
    with pytest.raises(RuntimeError) as caught:
        trained(twice, rank)
    twice.loss.group = twice.queue.group = group
    torch.testing.assert_close(trained(twice, rank), expected, rtol=0, atol=0)
    return str(caught.value)


def test_a_group_of_some_ranks(groups: ProcessGroups) -> None:
    said = groups(3)(of_some_ranks)
    assert said[1] == said[2]
    assert "had the group of ranks [1, 2]: assign its attribute `group`" in said[1]


def averaged(rank: int, size: int) -> None:
    """An exponential average of a model, taken while it trains."""
    model = Model(dist.group.WORLD)
    for use_buffers in (False, True):
        average = AveragedModel(
            model, multi_avg_fn=get_ema_multi_avg_fn(0.5), use_buffers=use_buffers
        )
        trained(model, rank)
        before = average.module.encoder.weight.clone()
        average.update_parameters(model)
        model.encoder.weight.data += 1
        average.update_parameters(model)
        torch.testing.assert_close(average.module.encoder.weight, before + 0.5)
        assert average.module.queue.group is dist.group.WORLD
        trained(average.module, rank)


def test_an_average_of_the_weights(groups: ProcessGroups) -> None:
    groups(2)(averaged)


def without_a_group() -> Model:
    """A model from a pickle, in a process where no group has been made."""
    store = dist.HashStore()
    dist.init_process_group("gloo", store=store, rank=0, world_size=1)
    try:
        return Model(dist.group.WORLD)
    finally:
        dist.destroy_process_group()


def test_where_there_is_no_group_a_pickle_says_so() -> None:
    """Also one that is written after the group has ended; what needs no ranks works."""
    model = through_pickle(without_a_group())
    assert "shared by ranks" in repr(model.queue)
    model.load_state_dict(copy.deepcopy(model).state_dict())
    assert len(model.queue.extend(numbers(2, 4, 0), torch.arange(2))[0]) == 2
    for call in (lambda: model.loss(numbers(2, 4, 0), numbers(2, 4, 1)), lambda: trained(model, 0)):
        with pytest.raises(RuntimeError, match=r"had the default group: call .*init_process_group"):
            call()
    model.queue.group = None
    model.queue.update(numbers(2, 4, 0), torch.arange(2))
    assert model.queue.count == 2


def test_without_a_group_of_its_own() -> None:
    for way in (copy.copy, *WAYS):
        queue, loss = way(MemoryQueue(4, 2)), way(AcrossRanks(InfoNCELoss()))
        assert queue.group is None
        assert loss.group is None
        queue.update(torch.randn(2, 2), torch.arange(2))
        assert queue.count == 2


def spawned(rank: int, model: nn.Module, path: str, expected: list[Tensor]) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{path}", rank=rank, world_size=1)
    torch.testing.assert_close(trained(model, rank), expected, rtol=0, atol=0)
    dist.destroy_process_group()


def test_a_module_given_to_a_new_process(tmp_path: Any) -> None:
    model = without_a_group()
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    try:
        expected = trained(through_pickle(model), 0)
    finally:
        dist.destroy_process_group()
    mp.spawn(spawned, args=(model, str(tmp_path / "meeting"), expected), nprocs=1)
