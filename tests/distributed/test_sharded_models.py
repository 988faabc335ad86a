"""``fully_shard`` of models that hold a loss over ranks and a queue; its tensors as a loss's input."""

from __future__ import annotations

import pytest
import torch
import torch.distributed as dist
from process_groups import ProcessGroups
from shards import numbers
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import Shard, distribute_tensor
from towers import assert_alike, tower

from hardneg import AcrossRanks, GradCache, InfoNCELoss, Learned, MemoryQueue

LENGTHS = (5, 4)
RING = pytest.mark.parametrize("ring", [False, True], ids=("gathered", "ring"))


class Model(nn.Module):
    """An encoder, a queue that ranks share, and a loss with a temperature."""

    def __init__(self, loss: nn.Module, group: dist.ProcessGroup | None) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.encoder, self.loss = tower(5).double(), loss
        self.queue = MemoryQueue(8, 8, group=group, dtype=torch.float64)

    def forward(self, x: Tensor, ids: Tensor) -> Tensor:
        y = self.encoder(x)
        extend = self.queue.extend if self.queue.group is None else self.queue.extend_share
        candidates, candidate_ids = extend(y + 0.1 * y.flip(1), ids)
        value = self.loss(y, candidates, query_ids=ids, candidate_ids=candidate_ids)
        self.queue.update(y, ids)
        return value


def temperature() -> nn.Module:
    return InfoNCELoss(Learned(0.07)).double()


def batch(step: int) -> tuple[Tensor, Tensor]:
    return numbers(sum(LENGTHS), 5, step), torch.arange(sum(LENGTHS)) + 6 * step


def sharded(rank: int, size: int, ring: bool) -> None:
    """Three steps beside one process: values, weights' and temperature's gradients, the queue."""
    alone = Model(temperature(), None)
    across = Model(AcrossRanks(temperature(), ring=ring), dist.group.WORLD)
    fully_shard(across.encoder, mesh=init_device_mesh("cpu", (size,)))
    fully_shard(across, mesh=init_device_mesh("cpu", (size,)))
    for step in range(3):
        x, ids = batch(step)
        alone.zero_grad()
        across.zero_grad()
        expected = alone(x, ids)
        value = across(x.split(LENGTHS)[rank], ids.split(LENGTHS)[rank])
        expected.backward()
        value.backward()
        torch.testing.assert_close(value, expected, rtol=1e-12, atol=1e-12)
        found = [p.grad.full_tensor() for p in across.parameters()]
        assert_alike(found, [p.grad for p in alone.parameters()])
        for a, b in zip(across.queue.entries(), alone.queue.entries(), strict=True):
            torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-12)


@RING
def test_a_sharded_model_has_the_gradients_of_one_process(
    groups: ProcessGroups, ring: bool
) -> None:
    groups(2)(sharded, ring)


def accumulated(rank: int, size: int) -> None:
    """Two cached batches, the gradients of which are reduced with the second."""
    found = []
    for late in (False, True):
        torch.manual_seed(0)
        encoder = fully_shard(tower(5).double(), mesh=init_device_mesh("cpu", (size,)))
        cache = GradCache(encoder, encoder, chunk_size=3)
        for step in range(2):
            encoder.set_requires_gradient_sync(step == 1 or not late)
            x = batch(step)[0].split((6, 3))[0]
            cache.backward(AcrossRanks(InfoNCELoss()), x + rank, x - rank)
        found.append([p.grad.full_tensor() for p in encoder.parameters()])
    assert_alike(found[1], found[0])


def test_gradients_that_are_reduced_later(groups: ProcessGroups) -> None:
    groups(2)(accumulated)


def spread(rank: int, size: int) -> list[str]:
    """One rank's input is a tensor that is itself spread over ranks."""
    x = numbers(4, 3, 0)
    far = distribute_tensor(x, init_device_mesh("cpu", (size,)), [Shard(0)])
    with pytest.raises(TypeError, match=r"queries is a DTensor.*queries\.to_local\(\)"):
        InfoNCELoss()(far, x)
    said = []
    for ring in (False, True):
        try:
            AcrossRanks(InfoNCELoss(), ring=ring)(x if rank else far, x)
        except (TypeError, ValueError) as error:
            said.append(str(error))
    return said


def test_a_spread_tensor_is_refused_on_every_rank(groups: ProcessGroups) -> None:
    first, second = groups(2)(spread)
    assert [text for text in first if "queries is a DTensor" in text] == first
    assert [text for text in second if "rank 0 was given wrong input" in text] == second
    assert len(first) == len(second) == 2
