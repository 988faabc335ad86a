"""Tiled equals dense."""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable
from dataclasses import dataclass, replace

import pytest
import torch
from reduction_cases import SIMILARITIES, TILES, tiled
from torch import Tensor

from hardneg.negatives.ceiling import Ceiling
from hardneg.negatives.selection import Selection
from hardneg.ops.comparison import Comparison, Relation, Window
from hardneg.ops.energies import CircleNegative, CirclePositive, Linear
from hardneg.ops.reference import Dense
from hardneg.ops.requests import (
    BatchAllTerms,
    ExponentialTerms,
    PairSearch,
    PenaltyTerms,
    Search,
)
from hardneg.ops.scores import Backend
from hardneg.ops.tiled_backend import Tiled
from hardneg.penalties import Hinge, Identity, Logistic, SquaredHinge
from hardneg.similarities import Cosine, Dot, Euclidean, SquaredEuclidean

CASES = range(30)


cases = pytest.mark.parametrize("seed", CASES)


AMONG = ["negatives", "positives"]


@dataclass(eq=False)
class Case:
    """One random comparison, leaves that want a gradient, and a source of further choices."""

    comparison: Comparison
    leaves: list[Tensor]
    rng: random.Random
    generator: torch.Generator
    backend: Backend
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
    backend = tiled(comparison, rng.choice(TILES))
    leaves = [comparison.queries, comparison.candidates]
    return Case(comparison, leaves, rng, g, backend, integer)


def assert_close(found: Tensor, expected: Tensor, tolerance: float, what: str) -> None:
    assert found.shape == expected.shape, what
    assert found.dtype == expected.dtype, what
    infinite = expected.isinf()
    assert torch.equal(found[infinite], expected[infinite]), what
    error = ((found - expected).abs() / (1 + expected.abs()))[~infinite]
    assert not (error > tolerance).any(), f"{what} is off by {error.max():.3g}"
    assert not error.isnan().any(), f"{what} has NaN"


def assert_agree(
    run: Callable[[Backend], tuple[Tensor, list[Tensor]]],
    backend: Backend,
    leaves: list[Tensor],
    tolerance: float,
) -> None:
    """Same value, same other results and same gradients from the backend as from the definition."""
    answers = []
    for one in (Dense(), backend):
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
    expected = Dense().scores(one.comparison).select(search)
    found = one.backend.scores(one.comparison).select(search)
    scores = one.scores
    exact = one.integer and isinstance(one.comparison.similarity, Dot | SquaredEuclidean)
    exact = exact or (not one.integer and scores.unique().numel() == scores.numel())
    for x, y, s in zip(found, expected, (scores, scores.T) * 2, strict=True):
        assert_same_choice(x, y, s, exact)
    for rows, columns in ((True, False), (False, True)):
        one_side = replace(search, rows=rows, columns=columns, hardest=False)
        half = one.backend.scores(one.comparison).select(one_side)
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
    search = PairSearch(anchors, ceilings + 0.01, selection, torch.tensor(seed))
    found, expected = (
        backend.scores(one.comparison).select_per_pair(search) for backend in (one.backend, Dense())
    )
    exact = not one.integer and scores.unique().numel() == scores.numel()
    assert_same_choice(found, expected, scores[anchors], exact)


@cases
@pytest.mark.parametrize("penalty", [Hinge(), SquaredHinge(), Logistic(), Identity()], ids=str)
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

    def run(backend: Backend) -> tuple[Tensor, list[Tensor]]:
        sums = backend.scores(one.comparison).penalty_sum(
            PenaltyTerms(penalty, rows, columns, **told)
        )
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
    assert_agree(run, one.backend, leaves, one.tolerance_of(penalty))


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

    def run(backend: Backend) -> tuple[Tensor, list[Tensor]]:
        found = backend.scores(one.comparison).penalty_total(
            PenaltyTerms(penalty, rows, columns, **told), *weights
        )
        return 2 * found.value, list(found[3:])

    leaves = one.leaves + [x for x in (rows, columns, scale) if x is not None]
    assert_agree(run, one.backend, leaves, one.tolerance_of(penalty))
    with torch.no_grad():
        assert_agree(run, one.backend, leaves, one.tolerance_of(penalty))


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

    def run(backend: Backend) -> tuple[Tensor, list[Tensor]]:
        found = backend.scores(one.comparison).logsumexp(ExponentialTerms(energy, **told))
        parts = [
            torch.where(x.isfinite(), x, 0.0).mul(w).sum()
            for x, w in zip(found[:2], weights, strict=True)
            if len(x)
        ]
        return torch.stack(parts).sum(), [x.detach() for x in found]

    leaves = one.leaves + ([] if scale is None else [scale])
    assert_agree(run, one.backend, leaves, one.tolerance)


@cases
def test_pair_scores(seed: int) -> None:
    one = case(seed)
    n, m = one.shape
    size = one.rng.choice([(30,), (7, 3), (0,)])
    rows = torch.randint(-1, n, size, generator=one.generator)
    columns = torch.randint(-1, m, size, generator=one.generator)
    weights = one.draw(*size)

    def run(backend: Backend) -> tuple[Tensor, list[Tensor]]:
        found = backend.scores(one.comparison).pairs(rows, columns)
        assert (found[(rows < 0) | (columns < 0)] == 0).all()
        return (found * weights).sum(), [found.detach()]

    assert_agree(run, one.backend, one.leaves, one.tolerance)


@cases
@pytest.mark.parametrize("ceiling", [None, Ceiling(), Ceiling(0.9, 0.0931)], ids=str)
def test_batch_all(seed: int, ceiling: Ceiling | None) -> None:
    """Ceilings at the positive itself are left to inputs without ties, where rounding decides nothing."""
    one = case(seed)
    if ceiling == Ceiling() and (one.integer or one.comparison.queries.shape[1] == 1):
        ceiling = Ceiling(1.0, 0.0137)
    for penalty, shape in itertools.product(
        (Hinge(), SquaredHinge(), Logistic()), ({}, {"per_pair": True}, {"total": True})
    ):
        terms = BatchAllTerms(penalty, 0.3, ceiling, **shape)

        def run(backend: Backend, terms: BatchAllTerms = terms) -> tuple[Tensor, list[Tensor]]:
            found = backend.scores(one.comparison).batch_all(terms)
            sums = found.sums.reshape(-1)
            weights = torch.linspace(0.5, 1.5, len(sums), dtype=sums.dtype)
            counts = [] if one.integer else [found.counts]
            return (sums * weights).sum(), [
                sums.detach(),
                *counts,
                found.maxima,
                found.positive_sums,
            ]

        assert_agree(run, one.backend, one.leaves, one.tolerance_of(penalty))


@cases
def test_counts_and_pairs(seed: int) -> None:
    one = case(seed)
    for among in AMONG:
        found = one.backend.scores(one.comparison).counts(among)
        expected = Dense().scores(one.comparison).counts(among)
        assert all(torch.equal(x, y) for x, y in zip(found, expected, strict=True))
    found = one.backend.scores(one.comparison).positive_pairs()
    expected = Dense().scores(one.comparison).positive_pairs()
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

    def run(backend: Backend) -> tuple[Tensor, list[Tensor]]:
        found = backend.scores(comparison).batch_all(BatchAllTerms(penalty, 0.3, **options))
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
        terms = BatchAllTerms(penalty, 0.0, ceiling)
        found, expected = (
            backend.scores(comparison).batch_all(terms) for backend in (Tiled(), Dense())
        )
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
    for backend in (Dense(), Tiled()):
        sums = backend.scores(comparison).batch_all(BatchAllTerms(SquaredHinge(), 0.01)).sums
        found.append((sums.detach(), torch.autograd.grad(sums.sum(), s)[0]))
    for a, b in zip(found[1], found[0], strict=True):
        torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-12 * max(far, 1.0))
