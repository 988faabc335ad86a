"""The reductions: tiled against dense on random cases, ties, draws, operators and derivatives.

The dense definitions (``hardneg.ops.reference``) are held to an oracle by ``test_matrix.py``; here
every other implementation is held to them, with every kind of relation, window, order and fallback.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import pytest
import torch
import torch.nn.functional as F
from every_loss import squashed
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from hardneg.ceilings import Ceiling
from hardneg.energies import CircleNegative, CirclePositive, Linear
from hardneg.ops.backends import resolve_backend
from hardneg.ops.dense import Dense
from hardneg.ops.description import Comparison, Relation, Window
from hardneg.ops.executor import Executor
from hardneg.ops.requests import ExponentialTerms, PenaltyTerms, Search, SelectedTerms
from hardneg.ops.single_tile import SingleTile
from hardneg.ops.tiled import best, top_k
from hardneg.ops.tiled.callable_executor import CallableTiled
from hardneg.ops.tiled.executor import Tiled
from hardneg.penalties import Hinge, Identity, Logistic, SquaredHinge, Step
from hardneg.selection import Selection
from hardneg.similarities import Cosine, Dot, Euclidean, Order, SquaredEuclidean, is_closed

CASES = range(30)
cases = pytest.mark.parametrize("seed", CASES)
OPERATORS = torch.ops.hardneg


def name_of(value: object) -> str:
    """A test's name that is the same in every process."""
    return getattr(value, "__name__", None) or str(value)


SIMILARITIES = [
    Cosine(),
    Dot(),
    Euclidean(),
    SquaredEuclidean(),
    Order(),
    Order("queries"),
    squashed,
]
TILES = [None, (1, 1), (3, 4), (7, 100), (64, 64), (200, 33), "all"]
AMONG = ["negatives", "positives", "others"]


class AfreshEachTime:
    """A single tile keeps the scores of the loss for which it was made, so every reduction gets its own here."""

    def __getattr__(self, name: str) -> Callable[..., object]:
        return getattr(SingleTile(), name)


def tiled(comparison: Comparison, tile: tuple[int, int] | str | None) -> Executor:
    if tile == "all" and is_closed(comparison.similarity):
        return AfreshEachTime()
    tile = None if tile == "all" else tile
    return Tiled(tile) if is_closed(comparison.similarity) else CallableTiled(tile)


@dataclass(eq=False)
class Case:
    """One random comparison, leaves that want a gradient, and a source of further choices."""

    comparison: Comparison
    leaves: list[Tensor]
    rng: random.Random
    generator: torch.Generator
    executor: Executor
    integer: bool

    @property
    def shape(self) -> tuple[int, int]:
        return len(self.comparison.queries), len(self.comparison.candidates)

    @property
    def scores(self) -> Tensor:
        c = self.comparison
        return c.similarity(c.queries, c.candidates).detach()

    @property
    def tolerance(self) -> float:
        """Relative rounding of float64 sums, and of gradients that divide by a distance."""
        return 1e-9

    def tolerance_of(self, *penalties: object) -> float:
        """Autograd's softplus has slope 1 from 20 on, the declared slope is exact: 2e-9 apart a term."""
        return 2e-8 if Logistic() in penalties else self.tolerance

    def draw(self, *size: int) -> Tensor:
        return torch.randn(*size, generator=self.generator, dtype=torch.float64)

    def leaf(self, *size: int) -> Tensor:
        return self.draw(*size).requires_grad_()

    def bound(self, length: int) -> Tensor | None:
        """Bounds near actual scores, on which none of them falls; or none."""
        if self.rng.random() < 0.5:
            return None
        scores = self.scores.flatten()
        return scores[torch.randint(len(scores), (length,), generator=self.generator)] + 0.00137

    def window(self) -> Window:
        n, m = self.shape
        if self.rng.random() < 0.4:
            return Window()
        return Window(self.bound(n), self.bound(n), self.bound(m), self.bound(m))


def case(seed: int, similarity: object = None) -> Case:
    """Sizes down to 1, rectangles either way, ids, masks, one set, offsets, swapped sides, ties."""
    rng, g = random.Random(seed), torch.Generator().manual_seed(seed)
    n = rng.choice([1, 2, 5, 17, 40])
    m, d = rng.choice([1, 3, n, n + 7, 90]), rng.choice([1, 3, 8])
    kind = rng.choice(["nothing", "ids", "mask", "ids and ignore", "one set"])
    same = kind == "one set"
    integer = rng.random() < 0.3
    q = torch.randn(n, d, generator=g, dtype=torch.float64)
    c = q.clone() if same else torch.randn(m, d, generator=g, dtype=torch.float64)
    if integer:
        q, c = (2 * q).round(), (2 * c).round()
    m = len(c)
    ids = torch.randint(0, 4, (n,), generator=g), torch.randint(0, 4, (m,), generator=g)
    offset = rng.choice([0, 0, 2])
    told = {"row_offset": offset, "column_offset": offset if same else rng.choice([0, 0, 1])}
    if same:
        told |= {"row_ids": ids[0], "column_ids": ids[0], "same_set": True}
    else:
        told["paired"] = rng.random() < 0.5
    if "ids" in kind:
        told |= {"row_ids": ids[0], "column_ids": ids[1]}
    if kind == "mask":
        told["positives"] = torch.rand(n, m, generator=g) < 0.3
    if "ignore" in kind:
        told["ignore"] = torch.rand(n, m, generator=g) < 0.3
    similarity = similarity or SIMILARITIES[seed % len(SIMILARITIES)]
    comparison = Comparison(q.requires_grad_(), c.requires_grad_(), similarity, Relation(**told))
    if rng.random() < 0.3:
        comparison = comparison.swapped()
    executor = tiled(comparison, rng.choice(TILES))
    leaves = [comparison.queries, comparison.candidates]
    return Case(comparison, leaves, rng, g, executor, integer)


def assert_close(found: Tensor, expected: Tensor, tolerance: float, what: str) -> None:
    assert found.shape == expected.shape, what
    assert found.dtype == expected.dtype, what
    infinite = expected.isinf()
    assert torch.equal(found[infinite], expected[infinite]), what
    error = ((found - expected).abs() / (1 + expected.abs()))[~infinite]
    assert not (error > tolerance).any(), f"{what} is off by {error.max():.3g}"
    assert not error.isnan().any(), f"{what} has NaN"


def assert_agree(
    run: Callable[[Executor], tuple[Tensor, list[Tensor]]],
    executor: Executor,
    leaves: list[Tensor],
    tolerance: float,
) -> None:
    """Same value, same other results and same gradients from the executor as from the definition."""
    answers = []
    for one in (Dense(), executor):
        value, others = run(one)
        gradients: list[Tensor | None] = [None] * len(leaves)
        if value.requires_grad:
            gradients = list(torch.autograd.grad(value, leaves, allow_unused=True))
        answers.append((value.detach(), others, gradients))
    (value, others, gradients), (found, found_others, found_gradients) = answers
    assert_close(found, value, tolerance, "value")
    for place, (x, y) in enumerate(zip(found_others, others, strict=True)):
        assert_close(x.double(), y.double(), tolerance, f"further result {place}")
    pairs = zip(found_gradients, gradients, leaves, strict=True)
    for place, (x, y, leaf) in enumerate(pairs):
        x, y = (torch.zeros_like(leaf) if g is None else g for g in (x, y))
        assert_close(x, y, tolerance, f"gradient {place}")


# --- tiled equals dense


def selection_of(one: Case) -> Selection:
    orders = ["highest", "lowest", "random"]
    if isinstance(one.comparison.similarity, Cosine | Euclidean | SquaredEuclidean):
        orders.append("distance_weighted")
    order = one.rng.choice(orders)
    k = one.rng.choice([1, 2, 5, 40])
    skip = one.rng.choice([0, 1]) if k > 1 and order == "highest" else 0
    parameters = (8.0, 0.5, 1.4) if order == "distance_weighted" else ()
    fallback = "none" if skip else one.rng.choice(["none", "easiest", "hardest"])
    return Selection(order, k, skip, parameters, fallback)


def assert_same_choice(found: Tensor, expected: Tensor, scores: Tensor, exact: bool) -> None:
    """The same indices; where scores are rounded, another index only for an equal score."""
    assert found.shape == expected.shape
    assert found.dtype == torch.int64
    for i, place in (found != expected).nonzero().tolist():
        u, v = int(found[i, place]), int(expected[i, place])
        assert not exact, f"anchor {i} takes {u}, not {v}"
        assert u >= 0, f"anchor {i} takes none, not {v}"
        assert v >= 0, f"anchor {i} takes {u}, not none"
        assert abs(scores[i, u] - scores[i, v]) < 1e-9, f"anchor {i} takes {u}, not {v}"


@cases
@pytest.mark.parametrize("among", AMONG)
def test_select(seed: int, among: str) -> None:
    one = case(seed)
    selection, window = selection_of(one), one.window()
    seed_of_draws = torch.tensor(one.rng.randrange(1 << 40))
    search = Search(selection, among, window, seed_of_draws, hardest=True)
    expected = Dense().select(one.comparison, search)
    found = one.executor.select(one.comparison, search)
    scores = one.scores
    exact = one.integer and isinstance(one.comparison.similarity, Dot | SquaredEuclidean)
    exact = exact or (not one.integer and scores.unique().numel() == scores.numel())
    for x, y, s in zip(found, expected, (scores, scores.T) * 2, strict=True):
        assert_same_choice(x, y, s, exact)
    for rows, columns in ((True, False), (False, True)):
        one_side = replace(search, rows=rows, columns=columns, hardest=False)
        half = one.executor.select(one.comparison, one_side)
        assert torch.equal(half.rows, found.rows if rows else found.rows[:0])
        assert torch.equal(half.columns, found.columns if columns else found.columns[:0])


@cases
def test_select_per_pair(seed: int) -> None:
    one = case(seed)
    n, _ = one.shape
    scores, selection = one.scores, selection_of(one)
    size = one.rng.choice([1, 20, 60])
    anchors = torch.randint(0, n, (size,), generator=one.generator).sort()[0]
    ceilings = scores.flatten()[torch.randint(scores.numel(), (size,), generator=one.generator)]
    told = (one.comparison, anchors, ceilings + 0.01, selection, torch.tensor(seed))
    found, expected = one.executor.select_per_pair(*told), Dense().select_per_pair(*told)
    exact = not one.integer and scores.unique().numel() == scores.numel()
    assert_same_choice(found, expected, scores[anchors], exact)


@cases
@pytest.mark.parametrize(
    "penalty", [Hinge(), SquaredHinge(), Logistic(), Identity(), Step()], ids=str
)
def test_penalty_sum(seed: int, penalty: object) -> None:
    one = case(seed)
    n, m = one.shape
    sides = one.rng.choice([(True, True), (True, False), (False, True)])
    rows, columns = (one.leaf(k) if on else None for k, on in zip((n, m), sides, strict=True))
    scale = torch.tensor(3.0, dtype=torch.float64, requires_grad=True)
    scale = one.rng.choice([None, scale])
    told = {"among": one.rng.choice(AMONG), "sign": one.rng.choice([1.0, -1.0]), "scale": scale}
    told["window"] = one.window()
    weights = one.draw(n), one.draw(m)

    def run(executor: Executor) -> tuple[Tensor, list[Tensor]]:
        sums = executor.penalty_sum(one.comparison, PenaltyTerms(penalty, rows, columns, **told))
        parts = [
            (x * w).sum()
            for x, w, on in zip((sums.rows, sums.columns), weights, sides, strict=True)
            if on
        ]
        counts = [] if isinstance(penalty, Identity) or one.integer else list(sums[2:4])
        return torch.stack(parts).sum(), [
            sums.rows.detach(),
            sums.columns.detach(),
            *counts,
            *sums[4:],
        ]

    leaves = one.leaves + [x for x in (rows, columns, scale) if x is not None]
    assert_agree(run, one.executor, leaves, one.tolerance_of(penalty))


@cases
@pytest.mark.parametrize("penalty", [Hinge(), Logistic()], ids=str)
def test_penalty_total(seed: int, penalty: object) -> None:
    one = case(seed)
    n, m = one.shape
    sides = one.rng.choice([(True, True), (True, False), (False, True)])
    rows, columns = (one.leaf(k) if on else None for k, on in zip((n, m), sides, strict=True))
    weights = [one.draw(k).abs() if on else None for k, on in zip((n, m), sides, strict=True)]
    scale = one.rng.choice([None, torch.tensor(0.5, dtype=torch.float64, requires_grad=True)])
    told = {"among": one.rng.choice(AMONG), "sign": one.rng.choice([1.0, -1.0]), "scale": scale}
    told["window"] = one.window()

    def run(executor: Executor) -> tuple[Tensor, list[Tensor]]:
        found = executor.penalty_total(
            one.comparison, PenaltyTerms(penalty, rows, columns, **told), *weights
        )
        return 2 * found.value, list(found[3:])

    leaves = one.leaves + [x for x in (rows, columns, scale) if x is not None]
    assert_agree(run, one.executor, leaves, one.tolerance_of(penalty))
    with torch.no_grad():
        assert_agree(run, one.executor, leaves, one.tolerance_of(penalty))


ENERGIES = [Linear(), Linear(3.0, 0.2), CircleNegative(0.25, 4.0), CirclePositive(0.25, 4.0)]


@cases
@pytest.mark.parametrize("energy", ENERGIES, ids=str)
def test_logsumexp(seed: int, energy: object) -> None:
    one = case(seed)
    n, m = one.shape
    scale = one.rng.choice([None, torch.tensor(1.5, dtype=torch.float64, requires_grad=True)])
    told = {"among": one.rng.choice(AMONG), "scale": scale, "window": one.window()}
    told |= one.rng.choice([{}, {"rows": False}, {"columns": False}])
    weights = one.draw(n), one.draw(m)

    def run(executor: Executor) -> tuple[Tensor, list[Tensor]]:
        found = executor.logsumexp(one.comparison, ExponentialTerms(energy, **told))
        parts = [
            torch.where(x.isfinite(), x, 0.0).mul(w).sum()
            for x, w in zip(found[:2], weights, strict=True)
            if len(x)
        ]
        return torch.stack(parts).sum(), [x.detach() for x in found]

    leaves = one.leaves + ([] if scale is None else [scale])
    assert_agree(run, one.executor, leaves, one.tolerance)


@cases
def test_pair_scores(seed: int) -> None:
    one = case(seed)
    n, m = one.shape
    size = one.rng.choice([(30,), (7, 3), (0,)])
    rows = torch.randint(-1, n, size, generator=one.generator)
    columns = torch.randint(-1, m, size, generator=one.generator)
    weights = one.draw(*size)

    def run(executor: Executor) -> tuple[Tensor, list[Tensor]]:
        found = executor.pair_scores(one.comparison, rows, columns)
        assert (found[(rows < 0) | (columns < 0)] == 0).all()
        return (found * weights).sum(), [found.detach()]

    assert_agree(run, one.executor, one.leaves, one.tolerance)


@cases
@pytest.mark.parametrize("ceiling", [None, Ceiling(), Ceiling(0.9, 0.0931)], ids=str)
def test_positives_penalty(seed: int, ceiling: Ceiling | None) -> None:
    """Ceilings at the positive itself are left to inputs without ties, where rounding decides nothing."""
    one = case(seed)
    if ceiling == Ceiling() and (one.integer or one.comparison.queries.shape[1] == 1):
        ceiling = Ceiling(1.0, 0.0137)
    for penalty, shape in itertools.product(
        (Hinge(), SquaredHinge(), Logistic()), ({}, {"per_pair": True}, {"total": True})
    ):

        def run(executor: Executor) -> tuple[Tensor, list[Tensor]]:
            found = executor.positives_penalty(one.comparison, penalty, 0.3, ceiling, **shape)  # noqa: B023
            sums = found.sums.reshape(-1)
            weights = torch.linspace(0.5, 1.5, len(sums), dtype=sums.dtype)
            counts = [] if one.integer else [found.counts]
            return (sums * weights).sum(), [
                sums.detach(),
                *counts,
                found.maxima,
                found.positive_sums,
            ]

        assert_agree(run, one.executor, one.leaves, one.tolerance_of(penalty))


@cases
def test_counts_and_pairs(seed: int) -> None:
    one = case(seed)
    for among in AMONG:
        found = one.executor.admitted_counts(one.comparison, among)
        expected = Dense().admitted_counts(one.comparison, among)
        assert all(torch.equal(x, y) for x, y in zip(found, expected, strict=True))
    found = one.executor.positive_pairs(one.comparison)
    expected = Dense().positive_pairs(one.comparison)
    assert all(torch.equal(x, y) for x, y in zip(found, expected, strict=True))


@pytest.mark.parametrize("ceiling", [None, Ceiling(0.9, 0.0931)], ids=str)
@pytest.mark.parametrize("per_pair", [False, True])
@pytest.mark.parametrize("penalty", [Hinge(), SquaredHinge(), Logistic()], ids=str)
def test_batch_all_with_many_positives(
    penalty: object, ceiling: Ceiling | None, per_pair: bool
) -> None:
    """From nine positives on hinges are found by sorted thresholds."""
    g = torch.Generator().manual_seed(0)
    x = torch.randn(60, 5, generator=g, dtype=torch.float64, requires_grad=True)
    labels = torch.randint(0, 3, (60,), generator=g)
    relation = Relation(labels, labels, same_set=True)
    comparison = Comparison(x, x, Cosine(), relation)
    options = {"ceiling": ceiling, "per_pair": per_pair}

    def run(executor: Executor) -> tuple[Tensor, list[Tensor]]:
        found = executor.positives_penalty(comparison, penalty, 0.3, **options)
        weights = torch.linspace(0.5, 1.5, len(found.sums), dtype=torch.float64)
        return (found.sums * weights).sum(), [found.sums.detach(), found.counts]

    for tile in (None, (7, 9)):
        assert_agree(run, Tiled(tile), [x], 1e-10)


def test_many_positives_with_scores_on_their_thresholds() -> None:
    """A ceiling below the threshold leaves nothing, not less than nothing where a score is on it."""
    g = torch.Generator().manual_seed(0)
    x = torch.randint(-2, 3, (60, 3), generator=g).double()
    labels = torch.arange(60) % 3
    comparison = Comparison(x, x, Dot(), Relation(labels, labels, same_set=True))
    ceilings = (Ceiling(1.0, -1.0), Ceiling(1.0, 2.0), None)
    for penalty, ceiling in itertools.product((Hinge(), SquaredHinge()), ceilings):
        told = (comparison, penalty, 0.0, ceiling)
        found, expected = Tiled().positives_penalty(*told), Dense().positives_penalty(*told)
        torch.testing.assert_close(found.sums, expected.sums, rtol=1e-14, atol=1e-11)
        assert torch.equal(found.counts, expected.counts)


@pytest.mark.parametrize("far", [0.0, 100.0, 1e4])
def test_squares_far_from_zero_do_not_cancel(far: float) -> None:
    """Running totals of squared scores are taken around the thresholds, wherever these lie."""
    g = torch.Generator().manual_seed(0)
    s = (torch.randn(9, 40, generator=g, dtype=torch.float64) - far).requires_grad_()
    x, labels = torch.eye(40, dtype=torch.float64), torch.arange(40) % 2
    comparison = Comparison(s, x, Dot(), Relation(labels[:9], labels, same_set=True))
    found = []
    for executor in (Dense(), Tiled()):
        sums = executor.positives_penalty(comparison, SquaredHinge(), 0.01).sums
        found.append((sums.detach(), torch.autograd.grad(sums.sum(), s)[0]))
    for a, b in zip(found[1], found[0], strict=True):
        torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-12 * max(far, 1.0))


# --- ties


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
        found = Tiled(tile).select(comparison, Search(selection, "negatives", window, hardest=True))
        expected = Dense().select(comparison, Search(selection, "negatives", window, hardest=True))
        assert all(torch.equal(x, y) for x, y in zip(found, expected, strict=True))
    plain = Dense().select(comparison, Search(Selection("highest", 19), hardest=True)).rows
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
    for search, argmax, x in (
        (top_k.row_top_k, best.row_argmax, keys),
        (top_k.column_top_k, best.column_argmax, keys.T),
    ):
        expected = x.sort(dim=1, descending=True, stable=True)
        floor = x.new_full((len(x),), -torch.finfo(dtype).max / 2)
        for k in (2, 5):
            values, indices = search(keys, k, floor)
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

    def run(executor: Executor) -> list[Tensor]:
        sums = executor.penalty_sum(base, PenaltyTerms(Hinge(), *zero))
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
        executor = Dense() if tile == "dense" else tiled(comparison, tile)
        told = {"among": "negatives", "window": window}
        found = executor.select(comparison, Search(Selection("highest", 3), **told))
        assert getattr(found, side).tolist() == [[1, -1, -1]]
        zeros = [x.new_zeros(len(s)) for s in (comparison.queries, comparison.candidates)]
        assert (
            getattr(executor.penalty_sum(comparison, PenaltyTerms(Hinge(), *zeros, **told)), side)
            == 2
        )
        assert (
            getattr(executor.logsumexp(comparison, ExponentialTerms(Linear(), **told)), side) == 2
        )


# --- random negatives


def chi_square(counts: Tensor, expected: Tensor) -> float:
    """How many standard deviations the statistic is above what chance gives."""
    statistic = ((counts - expected).square() / expected).sum().item()
    freedom = len(counts) - 1
    return (statistic - freedom) / (2 * freedom) ** 0.5


def on_sphere(n: int, m: int, d: int = 6, similarity: object = None) -> Comparison:
    g = torch.Generator().manual_seed(3)
    q, c = (F.normalize(torch.randn(k, d, generator=g, dtype=torch.float64)) for k in (n, m))
    ids = torch.randint(0, 5, (n,), generator=g), torch.randint(0, 5, (m,), generator=g)
    return Comparison(q, c, similarity or Cosine(), Relation(*ids))


RANDOM = [Selection("random", 3), Selection("distance_weighted", 3, 0, (6.0, 0.5, 1.4))]


@pytest.mark.parametrize("selection", RANDOM, ids=lambda s: s.order)
def test_draws_are_a_matter_of_the_seed_alone(selection: Selection) -> None:
    comparison = on_sphere(40, 90)
    seed = torch.tensor(123456789)
    expected = Dense().select(comparison, Search(selection, seed=seed))
    for tile in TILES:
        found = tiled(comparison, tile).select(comparison, Search(selection, seed=seed))
        assert all(torch.equal(x, y) for x, y in zip(found, expected, strict=True))
    other = Dense().select(comparison, Search(selection, seed=seed + 1))
    assert (other.rows != expected.rows).float().mean() > 0.5
    square = on_sphere(40, 40).among(row_ids=None, column_ids=None)
    both = Dense().select(square, Search(selection, seed=seed))
    assert (both.rows != both.columns).float().mean() > 0.5  # the directions draw apart
    # A part of the candidates, told where it starts, draws as the whole does.
    ids = comparison.relation.row_ids, comparison.relation.column_ids
    part = Comparison(
        comparison.queries[10:],
        comparison.candidates,
        Cosine(),
        Relation(ids[0][10:], ids[1], row_offset=10),
    )
    assert torch.equal(
        Tiled((4, 9)).select(part, Search(selection, seed=seed)).rows, expected.rows[10:]
    )


@pytest.mark.parametrize("selection", RANDOM, ids=lambda s: s.order)
@pytest.mark.parametrize("executor", [Dense(), Tiled((5, 7))], ids=str)
def test_draws_are_distinct_negatives(selection: Selection, executor: Executor) -> None:
    comparison = on_sphere(40, 25)
    row_ids, column_ids = comparison.relation.row_ids, comparison.relation.column_ids
    for seed in range(20):
        found = executor.select(comparison, Search(selection, seed=torch.tensor(seed)))
        sides = (found.rows, row_ids, column_ids), (found.columns, column_ids, row_ids)
        for chosen, mine, others in sides:
            for i, picks in enumerate(chosen.tolist()):
                picks = [j for j in picks if j >= 0]
                assert len(set(picks)) == len(picks)
                assert all(mine[i] != others[j] for j in picks)
    few = replace(comparison, relation=Relation(row_ids, torch.where(torch.arange(25) > 1, 9, 8)))
    mask = torch.ones(40, 25, dtype=torch.bool)
    mask[:, :2] = False
    few = few.among(ignore=mask)
    found = executor.select(few, Search(Selection("random", 3), seed=torch.tensor(0))).rows
    assert (found[:, 2] == -1).all()
    assert torch.equal(found[:, :2].sort(1).values, torch.tensor([[0, 1]]).expand(40, 2))


def test_random_draws_are_uniform() -> None:
    """Over anchors under one seed, over seeds for one anchor, and jointly for neighbouring anchors."""
    n, m = 6000, 12
    zeros = torch.zeros(n, 1, dtype=torch.float64)
    comparison = Comparison(zeros, zeros[:m], Dot(), Relation(torch.arange(n) + m, torch.arange(m)))
    picks = Tiled().select(comparison, Search(Selection("random", 2), seed=torch.tensor(7))).rows
    assert (picks >= 0).all()
    for place in (0, 1):
        counts = torch.bincount(picks[:, place], minlength=m).double()
        assert abs(chi_square(counts, torch.full((m,), n / m))) < 4
    joint = torch.bincount(picks[:-1, 0] * m + picks[1:, 0], minlength=m * m).double()
    assert abs(chi_square(joint, torch.full((m * m,), (n - 1) / m**2))) < 4
    one = replace(
        comparison, queries=zeros[:1], relation=Relation(torch.tensor([m]), torch.arange(m))
    )
    searches = [Search(Selection("random", 1), seed=torch.tensor(s)) for s in range(1500)]
    seeds = [Dense().select(one, search).rows.item() for search in searches]
    counts = torch.bincount(torch.tensor(seeds), minlength=m).double()
    assert abs(chi_square(counts, torch.full((m,), 1500 / m))) < 4


@pytest.mark.parametrize("similarity", [Cosine(), Euclidean(), SquaredEuclidean()], ids=name_of)
@pytest.mark.parametrize("executor", [Dense(), Tiled((500, 7))], ids=str)
def test_distance_weighted_draws_follow_the_inverse_density(
    similarity: object, executor: Executor
) -> None:
    """Wu et al., section 4.1: weights 1 / (d^(n-2) (1 - d^2/4)^((n-3)/2)), short distances cut off."""
    n, width, cutoff, farthest = 8000, 4, 0.5, 1.4
    angles = torch.tensor(
        [0.2, 0.45, 0.6, 0.8, 0.95, 1.1, 1.25, 1.4, 1.6, 2.5], dtype=torch.float64
    )
    c = torch.zeros(len(angles), width, dtype=torch.float64)
    c[:, 0], c[:, 1] = angles.cos(), angles.sin()
    q = torch.zeros(n, width, dtype=torch.float64)
    q[:, 0] = 1.0
    relation = Relation(torch.arange(n) + 100, torch.arange(len(c)))
    comparison = Comparison(q, c, similarity, relation)
    selection = Selection("distance_weighted", 1, 0, (float(width), cutoff, farthest))
    picks = executor.select(
        comparison, Search(selection, seed=torch.tensor(11), columns=False)
    ).rows[:, 0]
    d = (c - q[0]).norm(dim=1).clamp(min=cutoff)
    weights = d ** -(width - 2.0) * (1 - d**2 / 4) ** (-(width - 3) / 2)
    near = d < farthest
    assert 5 < near.sum() < len(c)
    counts = torch.bincount(picks, minlength=len(c)).double()
    assert (counts[~near] == 0).all()
    expected = n * weights[near] / weights[near].sum()
    assert abs(chi_square(counts[near], expected)) < 4
    uniform = torch.full_like(expected, n / len(expected))
    assert chi_square(counts[near], uniform) > 20, "the test could not tell it from a uniform draw"


# --- operators and derivatives


class Recorder(TorchDispatchMode):
    """Keeps the first calls of every hardneg operator, backward ones too."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: dict[str, list[tuple[object, ...]]] = {}

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if func.namespace == "hardneg":
            kept = self.calls.setdefault(func._opname, [])
            kept.append(tuple(x.detach().clone() if isinstance(x, Tensor) else x for x in args))
        return func(*args, **(kwargs or {}))


def labelled(similarity: object, dtype: torch.dtype = torch.float64) -> Comparison:
    """A small comparison whose embeddings want gradients."""
    g = torch.Generator().manual_seed(5)
    q, c = (torch.randn(rows, 3, generator=g, dtype=dtype) for rows in (6, 8))
    ids = torch.randint(0, 3, (6,), generator=g), torch.randint(0, 3, (8,), generator=g)
    ignore = torch.rand(6, 8, generator=g) < 0.1
    relation = Relation(*ids, ignore=ignore)
    return Comparison(q.requires_grad_(), c.requires_grad_(), similarity, relation)


def differentiable_runs(
    executor: Executor, similarity: object
) -> Iterator[tuple[str, Callable[..., Tensor], list[Tensor]]]:
    """Each differentiable reduction as a function of its tensors, and tensors away from the kinks."""
    base = labelled(similarity)
    q, c = base.queries, base.candidates
    scale = torch.tensor(1.3, dtype=torch.float64, requires_grad=True)
    g = torch.Generator().manual_seed(6)
    rows, columns = (
        torch.randn(k, generator=g, dtype=torch.float64).requires_grad_() for k in (6, 8)
    )
    weights = torch.linspace(0.5, 1, 6).double(), torch.linspace(1, 2, 8).double()
    pairs = torch.tensor([0, 2, 5, -1, 2]), torch.tensor([1, 7, 0, 3, 7])

    def compared(q: Tensor, c: Tensor) -> Comparison:
        return replace(base, queries=q, candidates=c)

    def sums(penalty: object) -> Callable[..., tuple[Tensor, Tensor]]:
        return lambda q, c, rows, columns, scale: executor.penalty_sum(
            compared(q, c), PenaltyTerms(penalty, rows, columns, scale=scale)
        )[:2]

    def total(q: Tensor, c: Tensor, rows: Tensor, columns: Tensor, scale: Tensor) -> Tensor:
        terms = PenaltyTerms(Logistic(), rows, columns, scale=scale)
        return executor.penalty_total(compared(q, c), terms, *weights).value

    def logsumexp(q: Tensor, c: Tensor, scale: Tensor) -> tuple[Tensor, Tensor]:
        return executor.logsumexp(compared(q, c), ExponentialTerms(Linear(2.0, 0.1), scale=scale))[
            :2
        ]

    def scores(q: Tensor, c: Tensor) -> Tensor:
        return executor.pair_scores(compared(q, c), *pairs)

    def batch_all(shape: dict[str, bool], penalty: object) -> Callable[..., Tensor]:
        return lambda q, c: (
            executor.positives_penalty(
                compared(q, c), penalty, 0.3, Ceiling(1.0, 5.0), **shape
            ).sums
        )

    def selected(shape: dict[str, bool], penalty: object) -> Callable[..., Tensor]:
        pick = Selection("highest", 2)

        def sums(q: Tensor, c: Tensor, scale: Tensor) -> Tensor:
            ceiling, factor = (None, scale) if penalty is None else (Ceiling(1.0, 5.0), None)
            terms = SelectedTerms(penalty, 0.3, pick, ceiling, None, factor)
            return executor.selected_penalty(compared(q, c), terms, **shape).sums

        return sums

    everything = [q, c, rows, columns, scale]
    for penalty in (Hinge(), SquaredHinge(), Logistic(), Identity()):
        yield f"penalty_sum {penalty.code}", sums(penalty), everything
    yield "penalty_total", total, everything
    yield "logsumexp", logsumexp, [q, c, scale]
    yield "pair_scores", scores, [q, c]
    for shape in ({}, {"per_pair": True}, {"total": True}):
        for penalty in (Hinge(), Logistic()):
            yield f"positives_penalty {shape} {penalty.code}", batch_all(shape, penalty), [q, c]
        run = selected(shape, None)
        yield f"selected_penalty {shape}", run, [q, c, scale]
        logistic = selected(shape, Logistic())
        yield f"selected_penalty {shape} logistic", lambda q, c, f=logistic: f(q, c, scale), [q, c]


def recorded() -> dict[str, list[tuple[object, ...]]]:
    """Calls of every operator: with gradients, windows, draws, and each similarity once."""
    with Recorder() as recorder:
        for similarity, executor in itertools.product(
            (Cosine(), Euclidean(), Order()), (Tiled((3, 4)), AfreshEachTime())
        ):
            for _, run, leaves in differentiable_runs(executor, similarity):
                found = run(*leaves)
                found = found if isinstance(found, tuple) else (found,)
                torch.stack([x.square().sum() for x in found]).sum().backward()
            comparison = labelled(similarity)
            window = Window(row_ceiling=torch.zeros(6).double())
            for selection in (
                Selection("highest", 2, 1),
                Selection("random", 2, fallback="easiest"),
            ):
                search = Search(selection, "negatives", window, torch.tensor(1), hardest=True)
                executor.select(comparison, search)
                anchors = torch.tensor([0, 0, 3])
                ceilings = torch.zeros(3, dtype=torch.float64)
                executor.select_per_pair(comparison, anchors, ceilings, selection, torch.tensor(1))
            executor.admitted_counts(comparison, "others")
            executor.positive_pairs(comparison)
            executor.magnitudes(comparison, anchors, anchors)
    return recorder.calls


RECORDED = recorded()
NAMES = sorted(
    name.removeprefix("hardneg::").split(".")[0]
    for name in torch._C._dispatch_get_all_op_names()
    if name.startswith("hardneg::")
)
DIFFERENTIABLE = {
    "penalty_sum",
    "penalty_total",
    "logsumexp",
    "pair_scores",
    "positives_penalty",
    "positives_penalty_total",
    "scores",
    "selected_penalty",
    "selected_penalty_total",
}


def test_every_operator_is_checked() -> None:
    assert set(RECORDED) == set(NAMES)
    assert set(NAMES) >= DIFFERENTIABLE


# PyTorch's own tracing check reads .grad of a tensor that is not a leaf.
@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf")
@pytest.mark.parametrize("name", NAMES)
def test_opcheck(name: str) -> None:
    """Schema, autograd registration, fake tensors, and ahead-of-time tracing with dynamic shapes."""
    operator = getattr(OPERATORS, name).default
    calls = RECORDED[name]
    for arguments in calls[:: max(1, len(calls) // 3)]:
        if name in DIFFERENTIABLE:
            arguments = tuple(
                x.requires_grad_() if isinstance(x, Tensor) and place < 2 else x
                for place, x in enumerate(arguments)
            )
        torch.library.opcheck(operator, arguments)


EXECUTORS = {"dense": Dense(), "tiled": Tiled(), "ragged": Tiled((3, 4)), "all": None}


@pytest.mark.parametrize("similarity", SIMILARITIES, ids=name_of)
@pytest.mark.parametrize("name", list(EXECUTORS))
def test_gradcheck(name: str, similarity: object) -> None:
    executor = EXECUTORS[name]
    if name != "dense":
        executor = tiled(labelled(similarity), "all" if executor is None else executor.tile)
    for what, run, leaves in differentiable_runs(executor, similarity):
        assert torch.autograd.gradcheck(run, leaves, fast_mode=True), what


def differentiate_twice(value: Tensor, leaves: list[Tensor]) -> None:
    """A gradient penalty, beside a term without it: the graph must not just leave the penalty out."""
    gradients = torch.autograd.grad(value, leaves, create_graph=True)
    norm = torch.stack([x.square().sum() for x in gradients]).sum()
    beside = torch.stack([x.square().sum() for x in leaves]).sum()
    torch.autograd.grad(norm + beside, leaves)


@pytest.mark.parametrize("similarity", [Cosine(), Euclidean(), Order(), squashed], ids=name_of)
@pytest.mark.parametrize("tile", [(3, 4), "all"], ids=str)
def test_a_second_derivative_raises_through_tiles(tile: object, similarity: object) -> None:
    executor = tiled(labelled(similarity), tile)
    for _, run, leaves in differentiable_runs(executor, similarity):
        found = run(*leaves)
        found = found if isinstance(found, tuple) else (found,)
        value = torch.stack([x.square().sum() for x in found]).sum()
        with pytest.raises(RuntimeError, match="second derivative"):
            differentiate_twice(value, leaves)


@pytest.mark.parametrize("similarity", [Cosine(), Dot(), Order(), squashed], ids=name_of)
def test_a_second_derivative_works_densely(similarity: object) -> None:
    for what, run, leaves in differentiable_runs(Dense(), similarity):
        assert torch.autograd.gradgradcheck(run, leaves, fast_mode=True), what


def test_a_single_tile_computes_the_scores_once() -> None:
    """For both directions, and for any relation between the same embeddings."""
    base, executor = labelled(Order()), SingleTile()
    with Recorder() as recorder:
        for comparison in (base, base.swapped(), base.among(same_set=False, paired=True)):
            executor.select(comparison, Search(Selection("highest", 1)))
            executor.penalty_sum(comparison, PenaltyTerms(Hinge(), base.queries.new_zeros(1), None))
    assert len(recorder.calls["scores"]) == 1
    assert len(executor.known) == 1


@pytest.mark.parametrize("n", [256, 257])
def test_auto_takes_one_tile_where_all_scores_fit_it(n: int) -> None:
    comparison = Comparison(torch.randn(n, 2), torch.randn(256, 2), Cosine(), Relation())
    small = isinstance(resolve_backend("auto", comparison), SingleTile)
    assert small == (n == 256)
    assert not isinstance(resolve_backend("tiled", comparison), SingleTile)
