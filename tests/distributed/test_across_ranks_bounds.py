"""Bounds made from scores, across ranks: a duplicate of the positive, on whatever rank, is not below it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from process_groups import ProcessGroups
from shards import Batch, in_one_process, on_this_rank
from torch import Tensor

import hardneg
from hardneg import All, Ceiling, SemiHard, TopK

ROWS = (130, 0, 141)


def product(queries: Tensor, candidates: Tensor) -> Tensor:
    return queries @ candidates.T


def pairs() -> Batch:
    """271 images; every caption stands twice, in places that have nothing to do with the ranks."""
    g = torch.Generator().manual_seed(3)
    which = (torch.arange(271) // 2)[torch.randperm(271, generator=g)]
    captions = torch.randn(136, 24, generator=g)[which] / 8
    images = captions + torch.randn(271, 24, generator=g) / 8
    parts = zip(images.split(ROWS), captions.split(ROWS), strict=True)
    return Batch([{"queries": q, "candidates": c} for q, c in parts])


def one_set() -> Batch:
    """Every row stands twice under two labels."""
    g = torch.Generator().manual_seed(4)
    x = torch.randn(136, 24, generator=g).repeat(2, 1)[torch.randperm(272, generator=g)[:271]] / 8
    labels = torch.randint(0, 60, (271,), generator=g)
    parts = zip(x.split(ROWS), labels.split(ROWS), strict=True)
    return Batch([{"embeddings": e, "labels": y} for e, y in parts])


def cases(ring: bool) -> Iterator[tuple[Any, Batch]]:
    """Losses that compare scores with a bound."""
    for similarity in ("cosine", "dot", "euclidean", product):
        yield hardneg.ContrastiveLoss(negatives=SemiHard("none"), similarity=similarity), pairs()
        yield hardneg.InfoNCELoss(negatives=All(Ceiling()), similarity=similarity), pairs()
        yield hardneg.MultiSimilarityLoss(epsilon=0.0, similarity=similarity), one_set()
        if not ring:
            loss = hardneg.TripletLoss(negatives=TopK(2, Ceiling()), similarity=similarity)
            yield loss, one_set()
    yield hardneg.PolynomialLoss(margin=0.0, negatives=TopK(2)), pairs()


def check(rank: int, size: int, ring: bool) -> None:
    for loss, batch in cases(ring):
        value, _ = on_this_rank(loss, batch, rank, ring)
        double = Batch(
            [
                {k: x.double() if x.is_floating_point() else x for k, x in s.items()}
                for s in batch.shards
            ]
        )
        expected, _ = in_one_process(loss, double)
        error = f"{loss}: {value.item()}, not {expected.item()}"
        assert abs(value.item() - expected.item()) <= 1e-4 * abs(expected.item()), error


@pytest.mark.parametrize("ring", [False, True], ids=("gathered", "ring"))
def test_duplicates_on_other_ranks(groups: ProcessGroups, ring: bool) -> None:
    groups(3)(check, ring)
