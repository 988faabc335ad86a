"""Bounds and distances in float32, whose rounding and whose centre must be those of one process."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.distributed as dist
from process_groups import ProcessGroups
from shards import Batch, in_one_process, on_this_rank
from torch import Tensor, nn

import hardneg
from hardneg import Ceiling, SemiHard, TopK

RING = pytest.mark.parametrize("ring", [False, True], ids=("gathered", "ring"))
LENGTHS = (90, 0, 61)
N, WIDTH = sum(LENGTHS), 24


def rows(seed: int) -> Tensor:
    return torch.randn(N, WIDTH, generator=torch.Generator().manual_seed(seed))


def cut(**whole: Tensor) -> Batch:
    """Global tensors cut into the rows of every rank."""
    parts = {name: x.split(LENGTHS) for name, x in whole.items()}
    return Batch([{n: p[rank] for n, p in parts.items()} for rank in range(len(LENGTHS))])


def assert_near(
    rank: int,
    loss: nn.Module,
    batch: Batch,
    ring: bool,
    tolerance: float,
    folded: Callable[[str, Tensor], Tensor] = lambda name, rows: rows,
) -> None:
    """Value, and gradients relative to the largest, as one process has them in float64.

    ``folded`` adds up the gradients of rows of an argument that are equal, of which a tie may take either.
    """
    exact = Batch(
        [
            {n: x.double() if x.is_floating_point() else x for n, x in shard.items()}
            for shard in batch.shards
        ]
    )
    expected, gradients = in_one_process(loss, exact)
    found, mine = on_this_rank(loss, batch, rank, ring)
    torch.testing.assert_close(found.double(), expected, rtol=tolerance, atol=tolerance)
    parts: list[dict[str, Tensor]] = [{} for _ in LENGTHS]
    dist.all_gather_object(parts, mine)
    for name, whole in gradients.items():
        ours = torch.cat([part[name] for part in parts]).double() / len(LENGTHS)
        limit = tolerance * float(whole.abs().max())
        error = (folded(name, ours) - folded(name, whole)).abs().max()
        assert error <= limit, (loss, name, float(error), limit)


SIMILARITIES = ("cosine", "dot", "euclidean", "squared_euclidean", "order")
BOUNDED = (SemiHard(), TopK(3, ceiling=Ceiling()), hardneg.All(ceiling=Ceiling()))


def of_both_copies(name: str, rows: Tensor) -> Tensor:
    """Of each caption that stands twice, in one row."""
    return rows if name == "queries" else torch.cat([rows[:75] + rows[75:150], rows[150:]])


def duplicates(rank: int, size: int, ring: bool) -> None:
    """Every caption stands a second time on another rank, without an id that says so.

    Its duplicate has the positive's score and lies not below it, whatever the last bit says.
    """
    images, captions = rows(0), rows(1)
    captions[75:150] = captions[:75]
    batch = cut(queries=images, candidates=captions)
    for similarity in SIMILARITIES:
        for negatives in BOUNDED:
            for make in (hardneg.ContrastiveLoss, hardneg.InfoNCELoss):
                loss = make(negatives=negatives, similarity=similarity)
                assert_near(rank, loss, batch, ring, 2e-4, of_both_copies)


@RING
def test_duplicates_of_positives_on_another_rank(groups: ProcessGroups, ring: bool) -> None:
    groups(3)(duplicates, ring)


def outlier(rank: int, size: int, ring: bool) -> None:
    """One candidate far away on one rank, alone or with its query: nobody else's distances suffer."""
    for far in (1e4, 1e5):
        for where in (3, N - 1):
            for with_query in (False, True):
                both = [rows(0), rows(1)]
                both[1][where] = far
                both[0][where] = far + 1.0 if with_query else 0.0
                batch = cut(queries=both[0], candidates=both[1])
                options: dict[str, Any] = {"similarity": "euclidean", "directions": "queries"}
                for negatives in ("hardest", "all"):
                    loss = hardneg.ContrastiveLoss(negatives=negatives, **options)
                    assert_near(rank, loss, batch, ring, 1e-4)


@RING
def test_a_far_row_on_one_rank(groups: ProcessGroups, ring: bool) -> None:
    groups(3)(outlier, ring)


def shifted(rank: int, size: int, ring: bool) -> None:
    """All rows far from zero, in another place on every rank: differences are what is left of them."""
    place = torch.arange(N)[:, None].div(50, rounding_mode="floor") * 3.0 + 1000.0
    batch = cut(queries=rows(0) + place, candidates=rows(0) + 0.5 * rows(1) + place)
    for negatives in ("hardest", "all"):
        for similarity in ("euclidean", "squared_euclidean"):
            loss = hardneg.ContrastiveLoss(negatives=negatives, similarity=similarity)
            assert_near(rank, loss, batch, ring, 1e-3)


@RING
def test_rows_far_from_zero(groups: ProcessGroups, ring: bool) -> None:
    groups(3)(shifted, ring)
