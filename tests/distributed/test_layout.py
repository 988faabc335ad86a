"""The global order of rows, the merging of picks and what a loss reads of sharded rows, each by itself."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from process_groups import ProcessGroups
from shards import numbers

from hardneg.distributed.autograd import gather_from_ranks
from hardneg.distributed.collectives import resolve_ranks
from hardneg.distributed.columns import first_k
from hardneg.distributed.layout import Layout
from hardneg.distributed.sharded_rows import ShardedRows

LAYOUTS = [
    Layout(lengths, heads)
    for lengths in itertools.product((0, 1, 3), repeat=3)
    for heads in itertools.product((0, 1, 3), repeat=3)
    if any(lengths) and all(h <= n for h, n in zip(heads, lengths, strict=True))
]


def order(layout: Layout) -> list[tuple[int, int]]:
    """(rank, its row) of every global row: the heads of all ranks, then the tails."""
    heads = [(r, i) for r, h in enumerate(layout.heads) for i in range(h)]
    tails = [(r, i) for r, n in enumerate(layout.lengths) for i in range(layout.heads[r], n)]
    return heads + tails


@pytest.mark.parametrize("layout", LAYOUTS, ids=lambda x: f"{x.lengths}-{x.heads}")
def test_global_order(layout: Layout) -> None:
    expected = order(layout)
    assert layout.total == len(expected)
    assert layout.holders(torch.device("cpu")).tolist() == [rank for rank, _ in expected]
    own = [
        torch.tensor([[r, i] for i in range(n)]).view(n, 2) for r, n in enumerate(layout.lengths)
    ]
    stacked = torch.stack([layout.padded(x) for x in own])
    assert stacked.shape[1] == max(layout.lengths)
    whole = layout.joined(stacked)
    assert [tuple(x) for x in whole.tolist()] == expected
    assert torch.equal(layout.split_rows(whole), stacked)
    for rank in range(3):
        numbered = {}
        for run in layout.runs(rank):
            assert (
                run.local.stop - run.local.start == run.everywhere.stop - run.everywhere.start > 0
            )
            for i, place in enumerate(range(*run.everywhere.indices(layout.total))):
                numbered[run.local.start + i] = place
        assert [expected[numbered[i]] for i in range(layout.lengths[rank])] == [
            (rank, i) for i in range(layout.lengths[rank])
        ]
        if layout.heads == layout.lengths and layout.lengths[rank]:
            assert expected[layout.start(rank)] == (rank, 0)


def test_no_rows_at_all_are_padded_to_one() -> None:
    layout = Layout((0, 0), (0, 0))
    assert layout.longest == 1
    assert layout.joined(torch.zeros(2, 1, 3)).shape == (0, 3)


INF = math.inf


@pytest.mark.parametrize(
    ("keys", "indices", "k", "expected"),
    [
        ([3.0, 5.0, 5.0, 1.0], [0, 2, 4, 9], 3, [2, 4, 0]),
        ([5.0, 5.0, 5.0], [1, 2, 3], 2, [1, 2]),
        ([9.0, 1.0, 9.0], [-1, 4, -1], 2, [4, -1]),
        ([-INF, -INF, -INF], [-1, 7, 8], 2, [7, 8]),
        ([-INF, 2.0, -INF], [-1, 3, 6], 3, [3, 6, -1]),
        ([0.0, 0.0], [-1, -1], 1, [-1]),
    ],
)
def test_the_first_k(keys: list, indices: list, k: int, expected: list) -> None:
    """Ties go to the lowest index, and those that are absent come behind the lowest key."""
    _, found = first_k(torch.tensor([keys]), torch.tensor([indices]), k)
    assert found.tolist() == [expected]


def reductions(rank: int, size: int) -> None:
    for lengths in ((2, 0, 3), (1, 1, 4), (0, 0, 2)):
        whole = numbers(sum(lengths), 4, 3) + 5.0
        layout = Layout(lengths, lengths)
        x = ShardedRows(whole.split(lengths)[rank], layout, resolve_ranks(None))
        close = {"rtol": 1e-13, "atol": 1e-13}
        for correction in (0, 1):
            found = x.var(0, correction=correction)
            torch.testing.assert_close(found, whole.var(0, correction=correction), **close)
        torch.testing.assert_close(x.mean(), whole.mean(), **close)
        torch.testing.assert_close(x.amax(), whole.amax(), **close)
        torch.testing.assert_close(x.aminmax(), whole.aminmax(), **close)
        assert torch.equal(x.square().sum(1).local, whole.square().sum(1).split(lengths)[rank])
        assert torch.equal(x.everywhere(), whole)
        ids = torch.arange(sum(lengths))
        mask = ids[:, None] % 2 == ids[None] % 3
        sharded = ShardedRows(mask.split(lengths)[rank], layout, resolve_ranks(None))
        assert torch.equal(sharded.diagonal(), mask.diagonal())
        assert torch.equal(sharded.T.own_rows(layout), mask.T.split(lengths)[rank])


def summed_in_bfloat16(rank: int, size: int) -> None:
    """256 + 1 + 1: in bfloat16, whose numbers are 2 apart there, the ones would be lost one by one."""
    layout = Layout((1, 2, 0), (1, 2, 0))
    x = torch.zeros(layout.lengths[rank], 2, dtype=torch.bfloat16, requires_grad=True)
    whole = gather_from_ranks(x, layout, resolve_ranks(None))
    assert whole.shape == (3, 2)
    whole.backward(torch.full_like(whole, 256.0 if rank == 0 else 1.0))
    assert torch.equal(x.grad, torch.full_like(x, 258.0))


def test_shares_of_a_gradient_are_summed_in_float32(groups: ProcessGroups) -> None:
    groups(3)(summed_in_bfloat16)


def test_what_a_loss_reads_of_sharded_rows(groups: ProcessGroups) -> None:
    groups(3)(reductions)
