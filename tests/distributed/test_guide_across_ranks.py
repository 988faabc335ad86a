"""A guide across ranks: the loss is that of one process."""

from __future__ import annotations

import pytest
import torch
from process_groups import ProcessGroups

from hardneg import AcrossRanks, ContrastiveLoss, InfoNCELoss, SemiHard, SigmoidLoss

LOSSES = (
    ContrastiveLoss(),
    ContrastiveLoss(negatives="all"),
    ContrastiveLoss(negatives=SemiHard("hardest")),
    InfoNCELoss(0.3),
    InfoNCELoss(0.3, positives="all"),
    SigmoidLoss(),
    InfoNCELoss(0.3, directions="joint"),
)
NUMBERS = {1: (5,), 2: (3, 6), 3: (4, 0, 5)}


def every_loss(rank: int, size: int) -> None:
    numbers = NUMBERS[size]
    n, start = sum(numbers), sum(numbers[:rank])
    mine = slice(start, start + numbers[rank])
    g = torch.Generator().manual_seed(n)
    q, c = (torch.randn(n, 8, generator=g, dtype=torch.float64) for _ in range(2))
    guide = tuple(torch.randn(n, 3, generator=g, dtype=torch.float64) for _ in range(2))
    ids = torch.arange(n) // 2
    for loss in LOSSES:
        whole = [x.clone().requires_grad_() for x in (q, c)]
        expected = loss(*whole, query_ids=ids, candidate_ids=ids, guide=guide)
        expected.backward()
        own = [x[mine].clone().requires_grad_() for x in (q, c)]
        named = {"query_ids": ids[mine], "candidate_ids": ids[mine]}
        found = AcrossRanks(loss)(*own, guide=tuple(x[mine] for x in guide), **named)
        found.backward()
        torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-10)
        for x, y in zip(own, whole, strict=True):
            assert x.grad is not None
            assert y.grad is not None
            torch.testing.assert_close(x.grad / size, y.grad[mine], rtol=1e-9, atol=1e-10)


@pytest.mark.parametrize("size", NUMBERS)
def test_equals_one_process(groups: ProcessGroups, size: int) -> None:
    groups(size)(every_loss)


def in_a_ring(rank: int, size: int) -> None:
    x, guide = torch.randn(4, 8), (torch.randn(4, 3), torch.randn(4, 3))
    with pytest.raises(NotImplementedError, match="no guide"):
        AcrossRanks(ContrastiveLoss(), ring=True)(x, x.clone(), guide=guide)


def test_a_ring_has_none(groups: ProcessGroups) -> None:
    groups(2)(in_a_ring)
