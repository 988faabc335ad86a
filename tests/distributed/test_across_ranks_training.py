"""What a training step makes of it: DDP, learned temperatures, optimiser steps, mixed precision, compile."""

from __future__ import annotations

import copy
import itertools
import warnings
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.distributed as dist
from process_groups import ProcessGroups
from shards import SIZES, flat, labelled_batch, numbers, paired_batch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel as DDP

import hardneg
from hardneg.distributed import AcrossRanks

RING = pytest.mark.parametrize("ring", [False, True], ids=("gathered", "ring"))


class TwoTowers(nn.Module):
    """Encoders of both sides, and the loss inside where one is given."""

    def __init__(self, loss: nn.Module | None = None) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.images = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 5)).double()
        self.captions = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 5)).double()
        self.loss = loss

    def forward(self, images: Tensor, captions: Tensor) -> Any:
        both = self.images(images), self.captions(captions)
        return both if self.loss is None else self.loss(*both)


LOSSES = {
    "hardest": lambda: hardneg.ContrastiveLoss(),
    "all": lambda: hardneg.ContrastiveLoss(negatives="all"),
    "clip": lambda: hardneg.InfoNCELoss(hardneg.Learned(0.07)),
    "hard clip": lambda: hardneg.InfoNCELoss(hardneg.Learned(0.07), negatives=hardneg.TopK(2)),
    "siglip": lambda: hardneg.SigmoidLoss(
        hardneg.Learned(0.1, max_scale=1000), bias=hardneg.Learned(-1.0)
    ),
    "hard siglip": lambda: hardneg.SigmoidLoss(
        hardneg.Learned(0.1, max_scale=1000), hardneg.Learned(-1.0), negatives=hardneg.TopK(2)
    ),
}


def step(model: nn.Module, value: Tensor, more: list[Tensor]) -> list[Tensor]:
    """The parameters after one step."""
    parameters = [*model.parameters(), *more]
    optimiser = torch.optim.SGD(parameters, lr=0.5)
    value.backward()
    optimiser.step()
    return [p.detach().clone() for p in parameters]


def trained(rank: int, size: int, name: str, inside: bool, ring: bool) -> None:
    """One step on DDP-wrapped encoders beside one process on the global batch."""
    shards = paired_batch(size).shards
    loss = LOSSES[name]().double()
    alone, single = TwoTowers(), copy.deepcopy(loss)
    images, captions = (torch.cat([s[n] for s in shards]) for n in ("queries", "candidates"))
    expected = step(alone, single(*alone(images, captions)), list(single.parameters()))

    mine = shards[rank]["queries"], shards[rank]["candidates"]
    across = AcrossRanks(loss, ring=ring)
    if inside:
        model = DDP(TwoTowers(across))
        found = step(model, model(*mine), [])
    else:
        model = DDP(TwoTowers())
        found = step(model, across(*model(*mine)), list(across.parameters()))
    assert len(found) == len(expected)
    for a, b in zip(found, expected, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-9)


@RING
@pytest.mark.parametrize("inside", [False, True], ids=("outside DDP", "inside DDP"))
@pytest.mark.parametrize("name", LOSSES)
def test_weights_after_a_step(groups: ProcessGroups, name: str, inside: bool, ring: bool) -> None:
    """Encoders, temperature and bias end where one process ends, wherever the loss stands."""
    groups(2)(trained, name, inside, ring)


def own_rows_alone(rank: int, size: int) -> None:
    """A loss that knows of no ranks, inside DDP: one step on the mean of both ranks' losses."""
    shards = paired_batch(size).shards
    pairs = [(s["queries"], s["candidates"]) for s in shards]
    alone = TwoTowers(LOSSES["hard clip"]().double())
    model = DDP(copy.deepcopy(alone))
    expected = step(alone, sum(alone(*pair) for pair in pairs) / size, [])
    found = step(model, model(*pairs[rank]), [])
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-9)


def test_a_loss_on_each_ranks_own_rows(groups: ProcessGroups) -> None:
    groups(2)(own_rows_alone)


@pytest.mark.parametrize("name", ["hardest", "clip", "siglip"])
def test_weights_after_a_step_with_an_empty_rank(groups: ProcessGroups, name: str) -> None:
    assert 0 in SIZES[3]
    groups(3)(trained, name, True, False)


def boundary(rank: int, size: int) -> None:
    """The margin loss's learned boundary: its whole gradient on every rank."""
    batch = labelled_batch(size)
    for negatives in ("all", hardneg.RandomK(2)):
        loss = hardneg.MarginLoss(beta=hardneg.Learned(1.2), negatives=negatives).double()
        whole = {n: torch.cat([s[n] for s in batch.shards]) for n in batch.shards[0]}
        torch.manual_seed(0)
        (expected,) = torch.autograd.grad(loss(**whole), loss.beta)
        torch.manual_seed(rank)
        (found,) = torch.autograd.grad(AcrossRanks(loss)(**batch.shards[rank]), loss.beta)
        torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-9)


def test_learned_boundary(groups: ProcessGroups) -> None:
    groups(3)(boundary)


def gradient_sizes(rank: int, size: int) -> list[float]:
    """The rank's gradient as a multiple of what one process gives these rows."""
    batch = paired_batch(size)
    whole = [torch.cat([s[n] for s in batch.shards]) for n in ("queries", "candidates")]
    leaves = [x.clone().requires_grad_() for x in whole]
    expected = torch.autograd.grad(hardneg.InfoNCELoss()(*leaves), leaves)
    mine = [batch.shards[rank][n].clone().requires_grad_() for n in ("queries", "candidates")]
    found = torch.autograd.grad(AcrossRanks(hardneg.InfoNCELoss())(*mine), mine)
    split = [g.split(SIZES[size])[rank] for g in expected]
    return [float((a / b).mean()) for a, b in zip(found, split, strict=True)]


def test_gradients_are_neither_averaged_nor_cut(groups: ProcessGroups) -> None:
    """A gather that detaches loses the other ranks' share, one that averages gives 1/W of it."""
    for ratios in groups(4)(gradient_sizes):
        assert ratios == pytest.approx([4.0, 4.0], rel=1e-9)


def unequal(rank: int, size: int) -> None:
    """Ranks that weigh the loss differently: the gradient of the mean of what they make of it."""
    batch = paired_batch(size)
    whole = torch.cat([s["queries"] for s in batch.shards]).requires_grad_()
    other = torch.cat([s["candidates"] for s in batch.shards])
    mean = sum(range(1, size + 1)) / size
    (expected,) = torch.autograd.grad(mean * hardneg.ContrastiveLoss()(whole, other), whole)
    mine = batch.shards[rank]["queries"].clone().requires_grad_()
    value = AcrossRanks(hardneg.ContrastiveLoss())(mine, batch.shards[rank]["candidates"])
    (found,) = torch.autograd.grad((rank + 1) * value, mine)
    share = expected.split(SIZES[size])[rank]
    torch.testing.assert_close(found / size, share, rtol=1e-9, atol=1e-9)


def test_ranks_that_weigh_the_loss_differently(groups: ProcessGroups) -> None:
    groups(3)(unequal)


def errors(rank: int, size: int, dtype: torch.dtype, ring: bool) -> list[tuple[float, float]]:
    """Of value and gradients: ours across ranks and one process's in this type, both against float64."""
    n, d, found = 24, 32, []
    whole = [numbers(n * size, d, seed).to(dtype) for seed in (0, 1)]
    for loss in (
        hardneg.ContrastiveLoss(negatives="all"),
        hardneg.InfoNCELoss(temperature=0.3),
        hardneg.ContrastiveLoss(negatives="all", similarity="euclidean"),
    ):
        exact = value_and_gradients(loss, [x.double() for x in whole])
        alone = value_and_gradients(loss, whole)
        own = slice(rank * n, (rank + 1) * n)
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=dtype == torch.bfloat16):
            ours = value_and_gradients(AcrossRanks(loss, ring=ring), [x[own] for x in whole])
        assert [x.dtype for x in ours] == [torch.float32, dtype, dtype]
        for i, (a, b, e) in enumerate(zip(ours, alone, exact, strict=True)):
            a, b, e = (a, b, e) if i == 0 else (a.double() / size, b[own], e[own])
            found.append((float((a - e).abs().max()), float((b - e).abs().max())))
            found[-1] += (float(e.abs().max()),)
    return found


def value_and_gradients(loss: nn.Module, embeddings: list[Tensor]) -> list[Tensor]:
    leaves = [x.clone().requires_grad_() for x in embeddings]
    value = loss(*leaves)
    return [value.detach(), *torch.autograd.grad(value, leaves)]


@RING
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_other_precisions(groups: ProcessGroups, dtype: torch.dtype, ring: bool) -> None:
    """Errors against float64 are within twice those of one process, and the type's rounding."""
    for of_rank in groups(2)(errors, dtype, ring):
        for ours, alone, size in of_rank:
            assert ours <= 2 * alone + torch.finfo(dtype).eps * size


def compiled(rank: int, size: int) -> list[float]:
    """An encoder and the loss in one compiled step: the loss is left out by a graph break."""
    torch.manual_seed(0)
    encoder, x = nn.Linear(4, 5).double(), numbers(3, 4, rank)
    across = AcrossRanks(hardneg.ContrastiveLoss())

    def step(x: Tensor) -> Tensor:
        return across(encoder(x), encoder(x.flip(1))) * 2

    plain = torch.autograd.grad(step(x), encoder.weight)[0]
    # dynamo looks at the .grad of what crosses a graph break
    warnings.filterwarnings("ignore", "The .grad attribute of a Tensor that is not a leaf")
    ours = torch.autograd.grad(torch.compile(step, backend="aot_eager")(x), encoder.weight)[0]
    torch.testing.assert_close(ours, plain, rtol=1e-12, atol=1e-12)
    return [float(ours.abs().sum())]


def test_compiled_steps(groups: ProcessGroups) -> None:
    assert all(size[0] > 0 for size in groups(2)(compiled))


def some_of_the_ranks(rank: int, size: int, ring: bool) -> str:
    """A group of the last ranks: they compare among themselves, the first is told that it is outside."""
    group = dist.new_group(list(range(1, size)))
    batch = paired_batch(size)
    across = AcrossRanks(hardneg.ContrastiveLoss(), group=group, ring=ring)
    if rank == 0:
        with pytest.raises(RuntimeError, match="not in the group"):
            across(**batch.shards[0])
        return "outside"
    whole = {n: torch.cat([s[n] for s in batch.shards[1:]]) for n in batch.shards[0]}
    leaves = {n: x.clone().requires_grad_() for n, x in batch.shards[rank].items()}
    value = across(**leaves)
    value.backward()
    torch.testing.assert_close(value, hardneg.ContrastiveLoss()(**whole), rtol=1e-9, atol=1e-9)
    return "inside"


@RING
def test_a_group_of_some_ranks(groups: ProcessGroups, ring: bool) -> None:
    assert groups(3)(some_of_the_ranks, ring) == ["outside", "inside", "inside"]


def without_gradients(rank: int, size: int, mode: Callable[[], Any], ring: bool) -> None:
    batch = paired_batch(size)
    whole = [torch.cat([s[n] for s in batch.shards]) for n in ("queries", "candidates")]
    for loss in (LOSSES[name]().double() for name in LOSSES):
        with mode():
            found = AcrossRanks(loss, ring=ring)(**batch.shards[rank], return_stats=True)
            expected = loss(*whole, return_stats=True)
        for a, b in zip(flat(found), flat(expected), strict=True):
            torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-9)


@RING
@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_evaluation_without_gradients(
    groups: ProcessGroups, mode: Callable[[], Any], ring: bool
) -> None:
    groups(2)(without_gradients, mode, ring)


def masked_without_gradients(rank: int, size: int) -> None:
    """Anchors of the second side see a transposed mask."""
    shards = labelled_batch(size, reference=True).shards
    for shard in shards:
        mask = torch.zeros(len(shard["labels"]), sum(len(s["reference"]) for s in shards))
        mask[:, 1::3] = 1
        shard["ignore_mask"] = mask.bool()
    loss = hardneg.TripletLoss(positives="hardest", negatives="all", directions="both")
    with torch.inference_mode():
        expected = loss(**{n: torch.cat([s[n] for s in shards]) for n in shards[0]})
        found = AcrossRanks(loss)(**shards[rank])
        torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-9)


def test_masks_in_inference_mode(groups: ProcessGroups) -> None:
    groups(2)(masked_without_gradients)


def one_side(rank: int, size: int, ring: bool) -> None:
    """A frozen side: only the other has a gradient."""
    batch = paired_batch(size)
    losses = hardneg.InfoNCELoss(), hardneg.ContrastiveLoss(negatives="all")
    for name, loss in itertools.product(("queries", "candidates"), losses):
        whole = {n: torch.cat([s[n] for s in batch.shards]) for n in batch.shards[0]}
        whole[name].requires_grad_()
        (expected,) = torch.autograd.grad(loss(**whole), whole[name])
        mine = {n: x.clone() for n, x in batch.shards[rank].items()}
        mine[name].requires_grad_()
        value = AcrossRanks(loss, ring=ring)(**mine)
        (found,) = torch.autograd.grad(value, mine[name])
        share = expected.split(SIZES[size])[rank]
        torch.testing.assert_close(found / size, share, rtol=1e-9, atol=1e-9)


@RING
def test_a_frozen_side(groups: ProcessGroups, ring: bool) -> None:
    groups(3)(one_side, ring)
