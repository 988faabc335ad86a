"""Many of many: the k highest of long rows and columns, exact with ties, merged tile by tile."""

from __future__ import annotations

import pytest
import torch
from profiled import largest
from torch import Tensor

from hardneg.negatives.selection import Selection
from hardneg.ops import grid, reference_rows
from hardneg.ops.comparison import Comparison, Relation, Window
from hardneg.ops.reference import Dense
from hardneg.ops.requests import Search
from hardneg.ops.tiled import top_k
from hardneg.ops.tiled.admission import excluded_value
from hardneg.ops.tiled.shortlist import Shortlist
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
    for k in (2, 5, 17, columns // 2, columns - 1, columns):
        assert_first(top_k.first_k(x, k), x, k)
        assert_first(top_k.row_top_k(x, k), x, k)
        assert_first(top_k.row_top_k(x.T.contiguous().T, k), x, k)


class Unmarked:
    """The keys of a tile, some of which are left out, and how often all of these were marked."""

    def __init__(self, x: Tensor, out: Tensor) -> None:
        self.x, self.out, self.count = x, out, 0

    def raw(self) -> Tensor:
        return self.x

    def marked(self) -> Tensor:
        self.count += 1
        return self.x.masked_fill(self.out, -excluded_value(self.x.dtype))

    def admits(self, anchors: Tensor, places: Tensor) -> Tensor:
        return ~self.out[anchors, places]


def shortlisted(
    x: Tensor, out: Tensor, k: int, width: int, turned: bool = False
) -> tuple[Tensor, list[int]]:
    """What a shortlist finds in tiles of some columns, and of which it marked every left-out pair."""
    found, counts = Shortlist(len(x), k, x.dtype), []
    for first in range(0, x.shape[1], width):
        part = x[:, first : first + width].clone()
        tile = Unmarked(part.T.contiguous().T if turned else part, out[:, first : first + width])
        found.take(tile, slice(0, len(x)), first)
        counts.append(tile.count)
    return found.chosen(), counts


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("kind", [*KEYS, "rising", "falling", "infinite"])
@pytest.mark.parametrize("width", [5, 40, 333, 1000])
def test_a_shortlist_finds_the_first_of_all_tiles(
    kind: str, width: int, dtype: torch.dtype
) -> None:
    x = keys(kind, 17, 1400, dtype)
    if kind in ("rising", "falling"):
        x = x.sort(dim=1, descending=kind == "falling").values
    if kind == "infinite":
        x[:, ::700], x[::2, 1::500], x[3], x[:, 7::900] = (
            torch.inf,
            torch.nan,
            torch.nan,
            -torch.inf,
        )
    out = torch.rand(17, 1400, generator=torch.Generator().manual_seed(1)) < 0.1
    out[5] = True
    for k in (2, 9, 150):
        found = shortlisted(x, out, k, width, turned=k == 9)[0]
        admitted = ~out & (x > -excluded_value(dtype) / 2)
        assert torch.equal(found, reference_rows.first_k(x, admitted, k))


def test_left_out_pairs_are_marked_only_where_many_keys_compete() -> None:
    """Once the lists are good, admission is asked of the few pairs that would enter them."""
    x = keys("random", 60, 40_000, torch.float32)
    out = torch.rand(x.shape, generator=torch.Generator().manual_seed(1)) < 0.01
    assert shortlisted(x, out, 4, 2000)[1] == [1] + 19 * [0]
    assert sum(shortlisted(x.sort(dim=1).values, out, 4, 2000)[1]) > 19


def whole_numbers(dtype: torch.dtype) -> Comparison:
    """Small integers, and rows that repeat: scores tie within tiles and across them."""
    g = torch.Generator().manual_seed(3)
    q, c = (torch.randn(n, 4, generator=g).mul(2).round() for n in (130, 700))
    c = c[torch.arange(700) % 233]
    ids = torch.arange(130) // 2, torch.arange(700) // 2
    return Comparison(q.to(dtype), c.to(dtype), Dot(), Relation(*ids, paired=True))


TIES = [
    pytest.param(tile, k, dtype, marks=() if (i + j + n) % 2 == 0 else pytest.mark.full)
    for i, tile in enumerate((None, (31, 97), (130, 200)))
    for j, k in enumerate((2, 7, 40, 120, 300, 800))
    for n, dtype in enumerate((torch.float32, torch.float64))
]


@pytest.mark.parametrize(("tile", "k", "dtype"), TIES, ids=str)
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
        Search(Selection("random", k), seed=torch.tensor(3), rows=False),
        Search(Selection("highest", k), window=window(base), rows=False),
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
