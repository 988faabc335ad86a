"""Collectives and sends take memory in order, whatever the strides of what a user passes."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import pytest
import torch
import torch.distributed as dist
from process_groups import ProcessGroups
from shards import numbers, paired_batch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from towers import tower

import hardneg
from hardneg.distributed import AcrossRanks
from hardneg.training.memory_queue import MemoryQueue

RING = pytest.mark.parametrize("ring", [False, True], ids=("gathered", "ring"))


def transposed(x: Tensor) -> Tensor:
    return x.T.contiguous().T


def every_other(x: Tensor) -> Tensor:
    return torch.stack([x, -x], dim=-1).flatten(-2)[..., ::2]


def slice_of_wider(x: Tensor) -> Tensor:
    return torch.cat([x + 1, x, x - 1], dim=-1)[..., x.shape[-1] : 2 * x.shape[-1]]


def channels_last(x: Tensor) -> Tensor:
    """As a convolution's output, pooled to one place."""
    image = x[:, :, None, None].expand(-1, -1, 2, 2).contiguous(memory_format=torch.channels_last)
    return image[:, :, 1, 1]


def einsum(x: Tensor) -> Tensor:
    return torch.einsum("dn,de->ne", x.T.contiguous(), torch.eye(len(x.T), dtype=x.dtype))


def negated_lazily(x: Tensor) -> Tensor:
    """The imaginary part of a conjugate: its memory holds -x."""
    return torch.complex(torch.zeros_like(x), -x).conj().imag


LAYOUTS = [transposed, every_other, slice_of_wider, channels_last, einsum, negated_lazily]
LOSSES: dict[str, Callable[[], nn.Module]] = {
    "hardest": hardneg.ContrastiveLoss,
    "all": lambda: hardneg.ContrastiveLoss(negatives="all", reduction="none"),
    "info_nce": hardneg.InfoNCELoss,
    "semihard": lambda: hardneg.ContrastiveLoss(negatives="semihard"),
    "euclidean": lambda: hardneg.InfoNCELoss(similarity="euclidean", negatives=hardneg.TopK(2)),
}


def results(loss: nn.Module, given: dict[str, Tensor], relaid: Callable[[Tensor], Tensor]):
    """Value and gradients where the embeddings, ids and masks lie in memory as ``relaid`` has it."""
    leaves = {n: x.clone().requires_grad_() for n, x in given.items() if x.is_floating_point()}
    laid = {n: relaid(x) for n, x in leaves.items()}
    ids = {n: every_other(x) for n, x in given.items() if n.endswith("ids")}
    masks = {n: transposed(x) for n, x in given.items() if n == "ignore_mask"}
    value = loss(**laid, **ids, **masks)
    terms = value if isinstance(value, tuple) else (value,)
    # the sum hands back a gradient without strides, the transposed product one that jumps
    pull = sum(t.sum() + (t.repeat(2, 1).T[:, 1] * 2).sum() for t in terms)
    return [*terms, *torch.autograd.grad(pull, list(leaves.values()))]


def every_layout(rank: int, size: int, ring: bool) -> None:
    shards = paired_batch(size, extra=True, ids=True).shards
    m = sum(len(s["candidates"]) for s in shards)
    mine = {**shards[rank], "ignore_mask": torch.zeros(len(shards[rank]["queries"]), m).bool()}
    mine["ignore_mask"][:, ::4] = True
    for make in LOSSES.values():
        loss = AcrossRanks(make(), ring=ring)
        expected = results(loss, mine, torch.clone)
        for relaid in LAYOUTS:
            assert not (relaid is transposed and relaid(numbers(3, 4, 0)).is_contiguous())
            found = results(loss, mine, relaid)
            for a, b in zip(found, expected, strict=True):
                torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-12)


@RING
@pytest.mark.parametrize("size", [2, 3])
def test_every_layout_gives_the_same(groups: ProcessGroups, size: int, ring: bool) -> None:
    groups(size)(every_layout, ring)


def one_row_for_all(rank: int, size: int, ring: bool) -> None:
    """Expanded candidates and labels, whose rows share their memory."""
    row, x = numbers(1, 4, 7), numbers(4, 4, rank)
    labels = torch.tensor([rank % 2]).expand(4)
    for make in (hardneg.SupConLoss, partial(hardneg.TripletLoss, positives="hardest")):
        loss = AcrossRanks(make(), ring=ring)
        found = []
        for copied in (False, True):
            leaf = row.clone().requires_grad_()
            far, same = leaf.expand(4, 4), labels
            if copied:
                far, same = far.clone(), same.clone()
            value = loss(x, same, far, same)
            found.append((value.detach(), *torch.autograd.grad(value, leaf)))
        torch.testing.assert_close(found[0], found[1], rtol=1e-12, atol=1e-12)


@RING
def test_expanded_rows(groups: ProcessGroups, ring: bool) -> None:
    groups(2)(one_row_for_all, ring)


def queued(rank: int, size: int) -> None:
    x, ids = numbers(3 + rank, 4, rank), torch.arange(3 + rank) + 10 * rank
    held = []
    for relaid in (torch.clone, *LAYOUTS):
        queue = MemoryQueue(16, 4, group=dist.group.WORLD, dtype=torch.float64)
        queue.update(relaid(x), ids if relaid is torch.clone else every_other(ids))
        held.append(queue.entries())
    for found in held[1:]:
        assert torch.equal(found[0], held[0][0])
        assert torch.equal(found[1], held[0][1])


def test_queue(groups: ProcessGroups) -> None:
    groups(2)(queued)


class Turned(nn.Module):
    """An encoder whose rows are columns in memory."""

    def __init__(self, relaid: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.tower, self.relaid = tower(5).double(), relaid

    def forward(self, x: Tensor) -> Tensor:
        return self.relaid(self.tower(x))


def cached(rank: int, size: int, ring: bool) -> None:
    x = numbers(9 + rank, 5, rank)
    found = []
    for relaid in (torch.clone, transposed, slice_of_wider):
        torch.manual_seed(0)
        encoder = DistributedDataParallel(Turned(relaid))
        loss = AcrossRanks(hardneg.InfoNCELoss(), ring=ring)
        cache = hardneg.GradCache(encoder, encoder, chunk_size=4)
        value = cache.backward(loss, transposed(x), every_other(x + 0.1))
        found.append([value, *(p.grad for p in encoder.parameters())])
    for one in found[1:]:
        torch.testing.assert_close(one, found[0], rtol=1e-10, atol=1e-12)


@RING
def test_gradient_caching(groups: ProcessGroups, ring: bool) -> None:
    groups(2)(cached, ring)
