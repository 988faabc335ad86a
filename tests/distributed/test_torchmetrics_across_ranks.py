"""A torchmetrics.Metric over gloo ranks, by its own synchronisation: uneven ranks, and one without rows."""

from __future__ import annotations

import warnings
from functools import partial
from typing import Any

import pytest
import torch
from process_groups import ProcessGroups
from torch import Tensor

from hardneg.metrics import map_at_r, ranks, recall_at_k

pytest.importorskip(
    "torchmetrics", reason="the adapter is for those who have torchmetrics: hardneg[torchmetrics]"
)

CUTS = {1: (20,), 2: (20, 0), 3: (0, 13, 7)}


def two_sets() -> tuple[Tensor, Tensor, Tensor]:
    g = torch.Generator().manual_seed(0)
    q, c = (torch.randint(-2, 3, (20, 4), generator=g).to(torch.bfloat16) for _ in "qc")
    return q, c, torch.randint(0, 6, (20,), generator=g)


def on_rank(rank: int, size: int) -> list[Any]:
    from hardneg.metrics.torchmetrics import EmbeddingMetric

    pairs, one_set = EmbeddingMetric(ranks, partial(recall_at_k, k=3)), EmbeddingMetric(map_at_r)
    q, c, ids = (x.split(CUTS[size])[rank] for x in two_sets())
    found: list[Any] = []
    for _ in range(2):
        for rows in torch.arange(len(q)).split(6):
            if len(rows):
                pairs.update(q[rows], c[rows])
                one_set.update(q[rows], query_ids=ids[rows])
        with (
            warnings.catch_warnings()
        ):  # torchmetrics': compute before update, on a rank without rows
            warnings.simplefilter("ignore", UserWarning)
            found.append([float(pairs.compute()), float(one_set.compute())])
        assert sum(map(len, pairs.queries)) == len(q)  # its own again
        pairs.reset()
        one_set.reset()
    pairs.update(torch.ones(2, 3 + rank), torch.zeros(2, 3 + rank))
    if size == 1:
        return [*found, "different types or widths"]
    try:
        pairs.compute()
    except ValueError as error:
        found.append(str(error))
    return found


@pytest.mark.parametrize("size", CUTS)
def test_equals_one_process(size: int, groups: ProcessGroups) -> None:
    q, c, ids = two_sets()
    expected = [recall_at_k(ranks(q, c), 3), map_at_r(q, q, ids, same_set=True)]
    for *values, said in groups(size)(on_rank):
        for found in values:
            assert found == pytest.approx(expected)
        assert "different types or widths" in said
