"""Many of many: the k highest of long rows and columns, exact with ties, merged tile by tile."""

from __future__ import annotations

import pytest
import torch
from profiled import largest
from torch import Tensor

from hardneg.negatives.selection import Selection
from hardneg.ops import grid
from hardneg.ops.comparison import Comparison, Relation, Window
from hardneg.ops.reference import Dense
from hardneg.ops.requests import Search
from hardneg.ops.tiled import top_k
from hardneg.ops.tiled.admission import excluded_value
from hardneg.ops.tiled_backend import Tiled
from hardneg.similarities import Dot

KEYS = ("random", "few values", "a long run", "mostly left out", "all left out", "one value")


def keys(kind: str, rows: int, columns: int, dtype: torch.dtype) -> Tensor:
    """Keys of a tile, with equals and marks of left-out pairs."""
    g = torch.Generator().manual_seed(rows + columns)
    found = torch.randn(rows, columns, generator=g, dtype=torch.float64).to(dtype)
    marked = torch.rand(rows, columns, generator=g)
    if kind == "few values":
        return (found * 2).round()
    if kind == "a long run":
        found[:, columns // 3 :: 3] = found.amax() if columns % 2 else 0.5
    if kind == "mostly left out":
        found[marked < 0.9] = -excluded_value(dtype)
        found[::2] = found[::2].round()
    if kind == "all left out":
        found.fill_(-excluded_value(dtype))
    if kind == "one value":
        found.fill_(-1.5)
    return found


def assert_first(found: tuple[Tensor, Tensor], x: Tensor, k: int) -> None:
    """The first k of a stable sort, apart from left-out pairs, whose places do not matter."""
    expected = x.sort(dim=1, descending=True, stable=True)
    width, lowest = found[0].shape[1], -excluded_value(x.dtype) / 2
    values, places = expected.values[:, :width], expected.indices[:, :width]
    assert bool((expected.values[:, width:k] <= lowest).all())
    left_out = values <= lowest
    assert torch.equal(found[0].masked_fill(left_out, 0.0), values.masked_fill(left_out, 0.0))
    assert torch.equal(found[1].masked_fill(left_out, 0), places.masked_fill(left_out, 0))
    assert torch.equal(x.gather(1, found[1]), found[0])


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("kind", KEYS)
@pytest.mark.parametrize("columns", [9, 64, 333, 2049])
def test_first_k(kind: str, columns: int, dtype: torch.dtype) -> None:
    x = keys(kind, 21, columns, dtype)
    lowest = x.new_full((21,), -excluded_value(dtype) / 2)
    for k in (2, 5, 17, columns // 2, columns - 1, columns):
        assert_first(top_k.first_k(x, k), x, k)
        assert_first(top_k.row_top_k(x, k, lowest), x, k)
        assert_first(top_k.column_top_k(x.T.contiguous(), k, lowest), x, k)


@pytest.mark.parametrize("kind", ["random", "few values", "one value"])
def test_only_what_exceeds_the_floor_is_needed(kind: str) -> None:
    """Fewer groups are looked into, yet everything above the floor is among what comes back, in order."""
    x = keys(kind, 50, 3000, torch.float32)
    for floor in (x[:, 0].clone(), x.amax(1), x.kthvalue(2990, dim=1).values):
        for found in (top_k.row_top_k(x, 9, floor), top_k.column_top_k(x.T.contiguous(), 9, floor)):
            expected = x.sort(dim=1, descending=True, stable=True)
            for row in range(len(x)):
                above = int((expected.values[row, :9] > floor[row]).sum())
                assert torch.equal(found[1][row, :above], expected.indices[row, :above])


def whole_numbers(dtype: torch.dtype) -> Comparison:
    """Small integers, and rows that repeat: scores tie within tiles and across them."""
    g = torch.Generator().manual_seed(3)
    q, c = (torch.randn(n, 4, generator=g).mul(2).round() for n in (130, 700))
    c = c[torch.arange(700) % 233]
    ids = torch.arange(130) // 2, torch.arange(700) // 2
    return Comparison(q.to(dtype), c.to(dtype), Dot(), Relation(*ids, paired=True))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("k", [2, 7, 40, 120, 300, 800])
@pytest.mark.parametrize("tile", [None, (31, 97), (130, 200)], ids=str)
def test_ties_in_both_directions(
    tile: tuple[int, int] | None, k: int, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Sums of whole numbers are exact, so every backend ranks the same scores."""
    monkeypatch.setitem(grid.TILE_ELEMENTS, "cpu", 1 << 14)
    monkeypatch.setitem(grid.TILE_COLUMNS, "cpu", 128)
    base = whole_numbers(dtype)
    for search in (
        Search(Selection("highest", k)),
        Search(Selection("highest", k, skip=k // 2), rows=False),
        Search(Selection("highest", k), columns=False, hardest=True),
        Search(Selection("highest", k, fallback="easiest"), window=window(base)),
        Search(Selection("random", k), seed=torch.tensor(3)),
    ):
        found, expected = (by.scores(base).select(search) for by in (Tiled(tile), Dense()))
        for x, y in zip(found, expected, strict=True):
            assert torch.equal(x, y)


def window(base: Comparison) -> Window:
    """Ceilings that admit few, and nobody for some anchors."""
    low = torch.linspace(-12, 4, 130).to(base.queries.dtype)
    return Window(row_ceiling=low, column_ceiling=torch.linspace(-12, 4, 700).to(low.dtype))


def test_a_long_search_holds_no_more_than_a_tile() -> None:
    """Long tiles have as many elements as others."""
    q, c = torch.randn(300, 8), torch.randn(30_000, 8)
    base = Comparison(q, c, Dot(), Relation())
    for k in (20, 500):
        search = Search(Selection("highest", k), columns=False)
        assert largest(lambda: Tiled().scores(base).select(search)) <= 1 << 21  # noqa: B023
