"""A guide across ranks: the loss is that of one process."""

from __future__ import annotations

import pytest
import torch
from process_groups import ProcessGroups

from hardneg import AcrossRanks, ContrastiveLoss, InfoNCELoss, SemiHard, SigmoidLoss, TopK

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


def every_loss(rank: int, size: int, ring: bool) -> None:
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
        found = AcrossRanks(loss, ring=ring)(*own, guide=tuple(x[mine] for x in guide), **named)
        found.backward()
        torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-10)
        for x, y in zip(own, whole, strict=True):
            assert x.grad is not None
            assert y.grad is not None
            torch.testing.assert_close(x.grad / size, y.grad[mine], rtol=1e-9, atol=1e-10)


@pytest.mark.parametrize("ring", [False, True], ids=["gathered", "ring"])
@pytest.mark.parametrize("size", NUMBERS)
def test_equals_one_process(groups: ProcessGroups, size: int, ring: bool) -> None:
    groups(size)(every_loss, ring)


def further_candidates(rank: int, size: int, ring: bool) -> None:
    """Behind the paired ones of all ranks, with their embeddings by the guide; of the queries alone."""
    rows, extra = NUMBERS[size], {1: (3,), 2: (2, 0), 3: (0, 2, 1)}[size]
    n, m = sum(rows), sum(rows) + sum(extra)
    g = torch.Generator().manual_seed(m)
    q, c, of_q, of_c = (
        torch.randn(k, d, generator=g, dtype=torch.float64)
        for k, d in ((n, 8), (m, 8), (n, 3), (m, 3))
    )
    start, behind = sum(rows[:rank]), n + sum(extra[:rank])
    mine = slice(start, start + rows[rank])
    held = [*range(start, start + rows[rank]), *range(behind, behind + extra[rank])]
    for loss in (
        ContrastiveLoss(negatives=TopK(2), directions="queries"),
        InfoNCELoss(0.3, directions="queries"),
    ):
        whole, here = (x.clone().requires_grad_() for x in (c, c[held]))
        expected = loss(q, whole, guide=(of_q, of_c))
        found = AcrossRanks(loss, ring=ring)(q[mine], here, guide=(of_q[mine], of_c[held]))
        torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-10)
        gradients = [torch.autograd.grad(x, y)[0] for x, y in ((found, here), (expected, whole))]
        torch.testing.assert_close(gradients[0] / size, gradients[1][held], rtol=1e-9, atol=1e-10)


@pytest.mark.parametrize("ring", [False, True], ids=["gathered", "ring"])
@pytest.mark.parametrize("size", [2, 3])
def test_further_candidates(groups: ProcessGroups, size: int, ring: bool) -> None:
    groups(size)(further_candidates, ring)
