"""Weights of anchors across ranks: each rank's own, and the loss is that of one process."""

from __future__ import annotations

import pytest
import torch
from process_groups import ProcessGroups
from test_own_negatives_across_ranks import LOSSES, NUMBERS, batch
from torch import Tensor

from hardneg import (
    AcrossRanks,
    InfoNCELoss,
    MarginLoss,
    MultiSimilarityLoss,
    NTXentLoss,
    SupConLoss,
    TopK,
    TripletLoss,
)

LABEL_LOSSES = (
    TripletLoss(negatives="all"),
    TripletLoss(negatives="semihard", reduction="mean_active"),
    TripletLoss(positives="hardest", negatives="hardest"),
    NTXentLoss(0.3),
    SupConLoss(0.3, negatives=TopK(2)),
    MarginLoss(negatives="all"),
    MultiSimilarityLoss(),
)
ON_A_RING = (*LABEL_LOSSES[2:], TripletLoss(negatives=TopK(2)))


def every_loss(rank: int, size: int, ring: bool) -> None:
    numbers = NUMBERS[size]
    embeddings, named = batch(sum(numbers))
    start = sum(numbers[:rank])
    mine = slice(start, start + numbers[rank])
    weights = torch.linspace(0.1, 2.0, sum(numbers), dtype=torch.float64)
    told = {name: named[name] for name in ("query_ids", "candidate_ids")}
    for loss in LOSSES:
        found = []
        for one, rows in ((loss, slice(None)), (AcrossRanks(loss, ring=ring), mine)):
            given = [x[rows].clone().requires_grad_() for x in embeddings[:2]]
            torch.manual_seed(5)
            value = one(*given, **{k: v[rows] for k, v in told.items()}, weights=weights[rows])
            value.backward()
            found.append([value.detach(), *(x.grad for x in given)])
        whole, here = found
        torch.testing.assert_close(here[0], whole[0], rtol=1e-9, atol=1e-10)
        for x, y in zip(here[1:], whole[1:], strict=True):
            torch.testing.assert_close(x / size, y[mine], rtol=1e-9, atol=1e-10)


@pytest.mark.parametrize("ring", [False, True], ids=["gathered", "ring"])
@pytest.mark.parametrize("size", list(NUMBERS))
def test_equals_one_process(groups: ProcessGroups, size: int, ring: bool) -> None:
    groups(size)(every_loss, ring)


def every_label_loss(rank: int, size: int, ring: bool) -> None:
    numbers = NUMBERS[size]
    start, n = sum(numbers[:rank]), sum(numbers)
    mine = slice(start, start + numbers[rank])
    weights = torch.linspace(0.1, 2.0, n, dtype=torch.float64)
    x, labels = batch(n)[0][0], torch.arange(n) % 3
    for loss in ON_A_RING if ring else LABEL_LOSSES:
        whole, here = (x[rows].clone().requires_grad_() for rows in (slice(None), mine))
        expected = loss(whole, labels, weights=weights)
        expected.backward()
        value = AcrossRanks(loss, ring=ring)(here, labels[mine], weights=weights[mine])
        value.backward()
        torch.testing.assert_close(value, expected, rtol=1e-9, atol=1e-10)
        assert here.grad is not None
        torch.testing.assert_close(here.grad / size, whole.grad[mine], rtol=1e-9, atol=1e-10)


@pytest.mark.parametrize("ring", [False, True], ids=["gathered", "ring"])
@pytest.mark.parametrize("size", list(NUMBERS))
def test_of_labels_equals_one_process(groups: ProcessGroups, size: int, ring: bool) -> None:
    groups(size)(every_label_loss, ring)


def wrong_on_one(rank: int, size: int) -> str:
    embeddings, _ = batch(4)
    weights: Tensor = torch.ones(4 - rank)
    try:
        AcrossRanks(InfoNCELoss())(*embeddings[:2], weights=weights)
    except ValueError as error:
        return str(error)
    return ""


def test_a_mistake_on_one_rank_raises_on_all(groups: ProcessGroups) -> None:
    first, second = groups(2)(wrong_on_one)
    assert "rank 1 was given wrong input" in first
    assert "weights has shape (3,): expected (4,)" in second
