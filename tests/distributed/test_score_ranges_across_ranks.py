"""A range of scores across ranks: the loss is that of one process."""

from __future__ import annotations

import pytest
import torch
from process_groups import ProcessGroups

from hardneg import (
    AcrossRanks,
    All,
    Ceiling,
    CircleLoss,
    ContrastiveLoss,
    InfoNCELoss,
    SemiHard,
    TopK,
    TripletLoss,
)

BOUNDS = {"min_score": -0.5, "max_score": 0.6}
PAIRED = (
    ContrastiveLoss(negatives=TopK(2, **BOUNDS)),
    ContrastiveLoss(negatives=TopK(2, Ceiling(0.9), "easiest", **BOUNDS)),
    ContrastiveLoss(negatives=All(**BOUNDS)),
    InfoNCELoss(0.3, negatives=All(Ceiling(0.9), **BOUNDS)),
    InfoNCELoss(0.3, negatives=All(**BOUNDS), positives="all"),
)
LABELLED = (
    TripletLoss(negatives=TopK(2, **BOUNDS)),
    CircleLoss(gamma=8.0, negatives=All(**BOUNDS)),
)
GATHERED = (
    TripletLoss(negatives=All(**BOUNDS)),
    TripletLoss(negatives=SemiHard("hardest", **BOUNDS)),
)
NUMBERS = {1: (5,), 2: (3, 6), 3: (4, 0, 5)}


def every_loss(rank: int, size: int) -> None:
    numbers = NUMBERS[size]
    n, start = sum(numbers), sum(numbers[:rank])
    mine = slice(start, start + numbers[rank])
    g = torch.Generator().manual_seed(n)
    sides = [torch.randn(n, 8, generator=g, dtype=torch.float64) for _ in range(2)]
    ids = torch.arange(n) // 2
    for ring in (False, True):
        for loss in (*PAIRED, *LABELLED, *(() if ring else GATHERED)):
            paired = loss in PAIRED
            given = sides if paired else sides[:1]

            def called(compute, rows: list[torch.Tensor], names: torch.Tensor) -> torch.Tensor:
                if paired:  # noqa: B023
                    return compute(*rows, query_ids=names, candidate_ids=names)
                return compute(*rows, names)

            whole, own = (
                [x[part].clone().requires_grad_() for x in given] for part in (slice(None), mine)
            )
            expected = called(loss, whole, ids)
            found = called(AcrossRanks(loss, ring=ring), own, ids[mine])
            torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-10)
            expected.backward()
            found.backward()
            for x, y in zip(own, whole, strict=True):
                torch.testing.assert_close(x.grad / size, y.grad[mine], rtol=1e-9, atol=1e-10)


@pytest.mark.parametrize("size", NUMBERS)
def test_equals_one_process(groups: ProcessGroups, size: int) -> None:
    groups(size)(every_loss)
