"""Ties."""

from __future__ import annotations

import itertools
from dataclasses import replace

import pytest
import torch
from reduction_cases import name_of, tiled
from torch import Tensor

from hardneg.negatives.selection import Selection
from hardneg.ops.comparison import Comparison, Relation, Window
from hardneg.ops.energies import Linear
from hardneg.ops.reference import Dense
from hardneg.ops.requests import (
    ExponentialTerms,
    PenaltyTerms,
    Search,
)
from hardneg.ops.scores import Backend
from hardneg.ops.tiled import best, top_k
from hardneg.ops.tiled_backend import Tiled
from hardneg.penalties import Hinge
from hardneg.similarities import Dot, SquaredEuclidean


def integers(seed: int) -> Comparison:
    """Small whole numbers: every sum is exact, ties abound."""
    g = torch.Generator().manual_seed(seed)
    q, c = (torch.randint(-2, 3, (rows, 3), generator=g).float() for rows in (13, 19))
    ids = torch.randint(0, 5, (13,), generator=g), torch.randint(0, 5, (19,), generator=g)
    return Comparison(q, c, Dot(), Relation(*ids, paired=True))


@pytest.mark.parametrize("similarity", [Dot(), SquaredEuclidean()], ids=name_of)
@pytest.mark.parametrize(
    "dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16], ids=str
)
@pytest.mark.parametrize("tile", [(1, 4), (2, 3), (5, 7), (13, 4), (3, 19), None])
def test_ties_go_to_the_smallest_index_whatever_the_tiles(
    similarity: object, dtype: torch.dtype, tile: tuple[int, int] | None
) -> None:
    base = integers(0)
    comparison = replace(
        base,
        queries=base.queries.to(dtype),
        candidates=base.candidates.to(dtype),
        similarity=similarity,
    )
    scores = similarity(base.queries.double(), base.candidates.double())
    assert scores.unique().numel() < 60
    kind = torch.float64 if dtype == torch.float64 else torch.float32
    floor, ceiling = torch.full((13,), -11.5, dtype=kind), torch.full((19,), 0.5, dtype=kind)
    window = Window(row_floor=floor, column_ceiling=ceiling)
    for order, fallback in itertools.product(("highest", "lowest"), ("none", "easiest", "hardest")):
        selection = Selection(order, 6, 1 if fallback == "none" else 0, (), fallback)
        found = (
            Tiled(tile)
            .scores(comparison)
            .select(Search(selection, "negatives", window, hardest=True))
        )
        expected = (
            Dense().scores(comparison).select(Search(selection, "negatives", window, hardest=True))
        )
        assert all(torch.equal(x, y) for x, y in zip(found, expected, strict=True))
    plain = Dense().scores(comparison).select(Search(Selection("highest", 19), hardest=True)).rows
    for i in range(13):
        mine = [j for j in plain[i].tolist() if j >= 0]
        assert mine == sorted(mine, key=lambda j: (-scores[i, j].item(), j))
        assert not any(base.relation.row_ids[i] == base.relation.column_ids[j] for j in mine)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("shape", [(299, 331), (331, 299), (256, 320)])
def test_the_first_of_equals_is_found_among_groups(
    shape: tuple[int, int], dtype: torch.dtype
) -> None:
    """Large tiles are searched group by group; the last rows and columns here fill no group."""
    keys = torch.randint(-9, 4, shape, generator=torch.Generator().manual_seed(0)).to(dtype)
    keys[::7, -1], keys[-1, ::5] = 4, 4
    for argmax, x in ((best.row_argmax, keys), (best.column_argmax, keys.T)):
        expected = x.sort(dim=1, descending=True, stable=True)
        for k in (2, 5):
            values, indices = top_k.row_top_k(x, k)
            assert torch.equal(values, expected.values[:, :k])
            assert torch.equal(indices, expected.indices[:, :k])
        value, index = argmax(keys)
        assert torch.equal(value, expected.values[:, 0])
        assert torch.equal(index, expected.indices[:, 0])


def test_zeros_of_both_signs_are_equal() -> None:
    values = torch.tensor([[-1.0, -0.0, 0.0, -0.0]])
    assert top_k.first_k(values, 3)[1].tolist() == [[1, 2, 3]]


@pytest.mark.parametrize("tile", [(1, 1), (2, 3), (5, 7), (13, 4), (3, 19)])
def test_sums_of_whole_numbers_do_not_depend_on_tiles(tile: tuple[int, int]) -> None:
    base = integers(1)
    q, c = base.queries.requires_grad_(), base.candidates.requires_grad_()
    zero = torch.zeros(13), torch.zeros(19)

    def run(backend: Backend) -> list[Tensor]:
        sums = backend.scores(base).penalty_sum(PenaltyTerms(Hinge(), *zero))
        return [*sums, *torch.autograd.grad(sums.rows.sum() + sums.columns.sum(), (q, c))]

    for x, y in zip(run(Tiled(tile)), run(Tiled()), strict=True):
        assert torch.equal(x, y)


@pytest.mark.parametrize("tile", [None, (1, 2), "all", "dense"], ids=str)
def test_a_window_is_strict_on_both_sides(tile: object) -> None:
    x = torch.tensor([[1.0], [2.0], [3.0]], dtype=torch.float64)
    base = Comparison(x[:1], x, Dot(), Relation(torch.tensor([9]), torch.arange(3)))
    low, high = x[:1, 0], x[2:, 0]
    for comparison, window in (
        (base, Window(row_floor=low, row_ceiling=high)),
        (base.swapped(), Window(column_floor=low, column_ceiling=high)),
    ):
        side = "rows" if comparison is base else "columns"
        backend = Dense() if tile == "dense" else tiled(comparison, tile)
        told = {"among": "negatives", "window": window}
        found = backend.scores(comparison).select(Search(Selection("highest", 3), **told))
        assert getattr(found, side).tolist() == [[1, -1, -1]]
        zeros = [x.new_zeros(len(s)) for s in (comparison.queries, comparison.candidates)]
        assert (
            getattr(
                backend.scores(comparison).penalty_sum(PenaltyTerms(Hinge(), *zeros, **told)), side
            )
            == 2
        )
        assert (
            getattr(backend.scores(comparison).logsumexp(ExponentialTerms(Linear(), **told)), side)
            == 2
        )
