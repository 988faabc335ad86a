"""``select`` by the kernels against its definition in float64."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace

import pytest
import torch
from random_comparisons import DTYPES, SIMILARITIES, Case, case
from torch import Tensor

from hardneg.negatives.selection import Selection
from hardneg.ops.comparison import Comparison, Relation, Window
from hardneg.ops.fused_backend import Fused
from hardneg.ops.reference import Dense
from hardneg.ops.requests import Search
from hardneg.ops.tiled_backend import Tiled
from hardneg.ops.triton.operands import operands
from hardneg.ops.triton.tuning import Configuration, using
from hardneg.similarities import Cosine, Dot, Euclidean, SquaredEuclidean

KINDS = list(itertools.product(SIMILARITIES, DTYPES))


def selection_of(one: Case, k: int) -> Selection:
    orders = ["highest", "lowest", "random"]
    if isinstance(one.comparison.similarity, Cosine | Euclidean | SquaredEuclidean):
        orders.append("distance_weighted")
    order = one.rng.choice(orders)
    skip = one.rng.choice([0, k // 2])
    parameters = (8.0, 0.5, 1.4) if order == "distance_weighted" else ()
    fallback = one.rng.choice(["none", "easiest", "hardest"])
    return Selection(order, k, skip, parameters, fallback)


def roundings(c: Comparison, scores: Tensor) -> Tensor:
    """How far float32 may take each score: sums of d products, or a root of their difference."""
    q, v = c.queries.abs(), c.candidates.abs()
    unit = torch.finfo(torch.float32).eps * (q.shape[1] + 2)
    if isinstance(c.similarity, Cosine):
        return unit * torch.ones_like(scores)
    if isinstance(c.similarity, Dot):
        return unit * (q @ v.T)
    squares = q.square().sum(1)[:, None] + v.square().sum(1)
    if isinstance(c.similarity, SquaredEuclidean):
        return unit * squares
    return unit * torch.minimum(squares / scores.abs(), squares.sqrt())


def assert_same_choice(
    found: Tensor, expected: Tensor, scores: Tensor, allowed: Tensor | None
) -> None:
    """The same indices; where scores are rounded, another index only for a score as close."""
    assert found.shape == expected.shape
    assert found.dtype == torch.int64
    for i, place in (found != expected).nonzero().tolist():
        u, v = int(found[i, place]), int(expected[i, place])
        assert allowed is not None, f"anchor {i} takes {u}, not {v}"
        assert u >= 0, f"anchor {i} takes none, not {v}"
        assert v >= 0, f"anchor {i} takes {u}, not none"
        apart, limit = abs(scores[i, u] - scores[i, v]), allowed[i, u] + allowed[i, v]
        assert apart <= limit, f"anchor {i} takes {u}, not {v}: {apart:.1e} apart"


def check(one: Case, selection: Selection, among: str) -> None:
    """Rows, columns, and the hardest of both; a seed beyond 32 bits."""
    window = one.window() if one.rng.random() < 0.7 else Window()
    seed = torch.tensor(one.rng.randrange(1 << 40))
    search = Search(selection, among, window, seed, hardest=True)
    expected = Dense().scores(one.double).select(search)
    found = Fused().scores(one.comparison).select(search)
    drawn = selection.order in ("random", "distance_weighted")
    s, rounding = one.scores, roundings(one.double, one.scores)
    sides = ((s, rounding), (s.T, rounding.T)) * 2
    for x, y, (scores, allowed) in zip(found, expected, sides, strict=True):
        exact = one.exact or (drawn and x.shape[1] == selection.k)
        assert_same_choice(x, y, scores, None if exact else allowed)


@pytest.mark.parametrize("seed", range(36))
def test_the_first(seed: int) -> None:
    one = case(seed, *KINDS[seed % len(KINDS)])
    check(one, selection_of(one, 1), one.rng.choice(["negatives", "positives"]))


@pytest.mark.parametrize("seed", range(18))
def test_the_first_k(seed: int) -> None:
    one = case(100 + seed, *KINDS[5 * seed % len(KINDS)])
    k = one.rng.choice([2, 5, 32])
    check(one, selection_of(one, k), one.rng.choice(["negatives", "positives"]))


@pytest.mark.parametrize("k", [1, 4])
def test_equal_scores_go_to_the_smallest_index(k: int) -> None:
    """Across tiles, panels and shares of columns."""
    q, c = torch.ones(50, 3), torch.ones(90, 3)
    c[45:, :] = 0.0
    for same in (torch.float32, torch.bfloat16):
        for sign in (1.0, 0.0, -1.0):
            comparison = Comparison(sign * q.to(same), c.to(same), Dot(), Relation())
            found = Fused().scores(comparison).select(Search(Selection("highest", k), "negatives"))
            expected = (
                Dense().scores(comparison).select(Search(Selection("highest", k), "negatives"))
            )
            assert torch.equal(found.rows, expected.rows)
            assert torch.equal(found.columns, expected.columns)


def test_one_side_alone() -> None:
    one = case(7, Cosine(), torch.float16)
    for k in (1, 3):
        both = Fused().scores(one.comparison).select(Search(Selection("highest", k)))
        rows = Fused().scores(one.comparison).select(Search(Selection("highest", k), columns=False))
        columns = Fused().scores(one.comparison).select(Search(Selection("highest", k), rows=False))
        assert torch.equal(rows.rows, both.rows)
        assert rows.columns.shape == (0, k)
        assert torch.equal(columns.columns, both.columns)
        assert columns.rows.shape == (0, k)


@pytest.mark.parametrize(
    "selection", [Selection("highest", 1, fallback="hardest"), Selection("lowest", 2)]
)
def test_no_candidates_at_all(selection: Selection) -> None:
    """Everybody related to everybody: -1 throughout, whatever the fallback."""
    ids = torch.zeros(40, dtype=torch.long)
    x = torch.randn(40, 5)
    for comparison in (
        Comparison(x, x, Dot(), Relation(ids, ids)),
        Comparison(x, x, Dot(), Relation(ignore=torch.ones(40, 40, dtype=torch.bool))),
    ):
        for found in Fused().scores(comparison).select(Search(selection, hardest=True)):
            assert found.numel() > 0
            assert (found == -1).all()


def test_wide_tiles_are_reduced_in_quarters() -> None:
    """The configuration of sm_90 has 256 columns, that of the interpreter 32."""
    wide = Configuration(32, 128, 32, 1, 1)
    q, c = torch.randn(40, 6), torch.randn(300, 6)
    ids = torch.randint(0, 9, (40,)), torch.randint(0, 9, (300,))
    comparison = Comparison(q.half(), c.half(), Cosine(), Relation(*ids))
    narrow = Fused().scores(comparison).select(Search(Selection("highest", 1)))
    with using({("best", "product16", "interpreter"): wide}):
        found = Fused().scores(comparison).select(Search(Selection("highest", 1)))
    assert torch.equal(found.rows, narrow.rows)
    assert torch.equal(found.columns, narrow.columns)


def test_draws_are_those_of_the_tiled_implementation() -> None:
    """Seed, pair and side decide; not the implementation, and not the numbers of global rows before."""
    one = torch.randn(45, 7), torch.randn(60, 7)
    relation = Relation(row_offset=3_000_000_000, column_offset=1)
    comparison = Comparison(*one, Cosine(), relation)
    for selection in (
        Selection("random", 3),
        Selection("random", 1),
        Selection("distance_weighted", 1, parameters=(7.0, 0.5, 1.4)),
    ):
        seed = torch.tensor(2**31 - 2)
        found = Fused().scores(comparison).select(Search(selection, seed=seed))
        expected = Tiled().scores(comparison).select(Search(selection, seed=seed))
        assert torch.equal(found.rows, expected.rows)
        assert torch.equal(found.columns, expected.columns)


def test_distances_far_from_the_origin() -> None:
    """float32 embeddings are centred, so their distances are not lost in their lengths."""
    g = torch.Generator().manual_seed(0)
    x, y = (torch.randn(30, 8, generator=g) + 1000 for _ in range(2))
    comparison = Comparison(x, y, Euclidean(), Relation())
    double = Comparison(x.double(), y.double(), Euclidean(), Relation())
    found, expected = (
        e.scores(c).select(Search(Selection("highest", 1)))
        for e, c in ((Fused(), comparison), (Dense(), double))
    )
    assert torch.equal(found.rows, expected.rows)
    assert torch.equal(found.columns, expected.columns)


@pytest.mark.parametrize(
    ("older", "newer", "precision"),
    [
        ("high", None, "bf16x3"),
        ("medium", None, "tf32"),
        ("highest", "tf32", "tf32"),
        ("high", "ieee", "ieee"),
    ],
)
def test_precision_follows_torch(older: str, newer: str | None, precision: str) -> None:
    """By the older setting and by ``fp32_precision``; with tf32 the kernel multiplies float32 itself."""
    one = case(3, Dot(), torch.float32)
    expected = Fused().scores(one.comparison).select(Search(Selection("highest", 1)))
    torch.set_float32_matmul_precision(older)
    try:
        if newer is not None:
            torch.backends.cuda.matmul.fp32_precision = newer
        assert operands(one.comparison).precision == precision
        found = Fused().scores(one.comparison).select(Search(Selection("highest", 1)))
    finally:
        torch.set_float32_matmul_precision("highest")
    assert torch.equal(found.rows, expected.rows)
    assert torch.equal(found.columns, expected.columns)


def test_no_launch_has_more_programs_than_a_grid(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ten million rows of 64 x 64 tiles are more than 2**31 - 1 programs, so they take several launches."""
    one = operands(case(3, Dot(), torch.bfloat16).comparison)
    monkeypatch.setattr("hardneg.ops.triton.operands.LAUNCH", (1 << 21, 1 << 21))
    panels = list(replace(one, shape=(10**7, 10**7, 3)).panels())
    assert sum(math.prod(extent.shape) for _, extent in panels) == 10**14
    assert all(math.prod(extent.shape) < 2**31 * 64 * 64 for _, extent in panels)


def test_an_equal_score_with_a_smaller_index_comes_later(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a GPU tiles finish in any order: what was found first may have the larger index."""
    bits = torch.tensor(3.0).view(torch.int32).item()

    def found_before(*shape: int, device: torch.device) -> Tensor:
        return torch.full(shape, (bits << 32) | (0x7FFFFFFF ^ 30), dtype=torch.int64)

    monkeypatch.setattr("hardneg.ops.triton.select.no_keys", found_before)
    comparison = Comparison(torch.ones(33, 3), torch.ones(40, 3), Dot(), Relation())
    for same in (torch.float32, torch.bfloat16):
        q, c = comparison.queries.to(same), comparison.candidates.to(same)
        given = replace(comparison, queries=q, candidates=c)
        for search in (
            Search(Selection("highest", 1)),
            Search(Selection("highest", 1), window=Window(row_floor=torch.zeros(33))),
        ):
            found = Fused().scores(given).select(search)
            assert found.rows.flatten().tolist() == [1] + [0] * 32
            assert found.columns.flatten().tolist() == [1] + [0] * 39
