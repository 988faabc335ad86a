"""Own negatives across ranks: they stay where their query is, and the loss is that of one process."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from process_groups import ProcessGroups
from torch import Tensor

from hardneg import (
    AcrossRanks,
    ContrastiveLoss,
    InfoNCELoss,
    RandomK,
    SemiHard,
    SigmoidLoss,
    UnifiedPairLoss,
)

LOSSES = (
    ContrastiveLoss(),
    ContrastiveLoss(negatives="all"),
    ContrastiveLoss(negatives=SemiHard("hardest")),
    InfoNCELoss(0.3),
    InfoNCELoss(0.3, negatives=RandomK(3)),
    InfoNCELoss(0.3, positives="all", directions="queries"),
    UnifiedPairLoss(directions="queries"),
    SigmoidLoss(),
)
NUMBERS = {1: (5,), 2: (3, 6), 3: (4, 0, 5)}
K, WIDTH = 2, 8


def batch(n: int) -> tuple[list[Tensor], dict[str, Tensor]]:
    g = torch.Generator().manual_seed(n)
    shapes = (n, WIDTH), (n, WIDTH), (n, K, WIDTH)
    embeddings = [torch.randn(*s, generator=g, dtype=torch.float64) for s in shapes]
    ids = torch.arange(n) // 2
    own_ids = torch.randint(0, n // 2 + 2, (n, K), generator=g)
    left_out = torch.rand(n, K, generator=g) < 0.2
    return embeddings, {
        "query_ids": ids,
        "candidate_ids": ids,
        "own_negative_ids": own_ids,
        "own_ignore_mask": left_out,
    }


def called(
    loss: Any, embeddings: list[Tensor], seed: int, **options: Any
) -> tuple[Tensor, Any, list[Tensor]]:
    """Value, statistics and gradients."""
    given = [x.clone().requires_grad_() for x in embeddings]
    torch.manual_seed(seed)
    value, stats = loss(*given[:2], own_negatives=given[2], return_stats=True, **options)
    value.backward()
    return (
        value.detach(),
        stats.as_dict(),
        [torch.zeros_like(x) if x.grad is None else x.grad for x in given],
    )


def every_loss(rank: int, size: int, ring: bool) -> None:
    numbers = NUMBERS[size]
    embeddings, named = batch(sum(numbers))
    start = sum(numbers[:rank])
    mine = slice(start, start + numbers[rank])
    for loss in LOSSES:
        for share in (True, False) if loss.directions == "queries" else (True,):
            whole = called(loss, embeddings, 5, share_negatives=share, **named)
            own = [x[mine] for x in embeddings]
            here = {name: x[mine] for name, x in named.items()}
            found = called(
                AcrossRanks(loss, ring=ring), own, 5 + 10 * rank, share_negatives=share, **here
            )
            torch.testing.assert_close(found[:2], whole[:2], rtol=1e-9, atol=1e-10)
            for gradient, expected in zip(found[2], whole[2], strict=True):
                torch.testing.assert_close(gradient / size, expected[mine], rtol=1e-9, atol=1e-10)


@pytest.mark.parametrize("ring", [False, True], ids=["gathered", "ring"])
@pytest.mark.parametrize("size", NUMBERS)
def test_equals_one_process(groups: ProcessGroups, size: int, ring: bool) -> None:
    groups(size)(every_loss, ring)


def disagreement(rank: int, size: int) -> str:
    embeddings, _ = batch(4)
    own = embeddings[2][:, : rank + 1]
    try:
        AcrossRanks(ContrastiveLoss())(*embeddings[:2], own_negatives=own)
    except ValueError as error:
        return str(error)
    return ""


def test_every_rank_needs_as_many(groups: ProcessGroups) -> None:
    for message in groups(2)(disagreement):
        assert "own_negatives have number a query 1 on rank 0 but 2 on rank 1" in message


def wrong_shape_on_one(rank: int, size: int) -> str:
    embeddings, _ = batch(4)
    own = embeddings[2] if rank == 0 else embeddings[2][:2]
    try:
        AcrossRanks(ContrastiveLoss())(*embeddings[:2], own_negatives=own)
    except ValueError as error:
        return str(error)
    return ""


def test_a_mistake_on_one_rank_raises_on_all(groups: ProcessGroups) -> None:
    first, second = groups(2)(wrong_shape_on_one)
    assert "rank 1 was given wrong input" in first
    assert "4, k, 8" in second
