"""One tensor on both sides: kernels that compute a triangle of its scores, or their gradient in one product."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
from dense_case import Result
from rounding import assert_rounded
from torch import Tensor

import hardneg.functional as H
from hardneg import SemiHard
from hardneg.negatives.selection import Selection
from hardneg.ops.comparison import Comparison, Relation, Window
from hardneg.ops.energies import CircleNegative, Linear
from hardneg.ops.fused_backend import Fused
from hardneg.ops.reference import Dense
from hardneg.ops.requests import Engine, ExponentialTerms, PenaltyTerms, Search
from hardneg.ops.scores import Backend, Scores
from hardneg.penalties import Hinge, Identity, Logistic, SquaredHinge
from hardneg.similarities import Cosine, Dot, Euclidean, Order, SquaredEuclidean

SYMMETRIC = (Cosine(), Dot(), Euclidean(), SquaredEuclidean())
DTYPES = (torch.float32, torch.bfloat16, torch.float16)
SIZES = (91, 37, 1)
"""Several panels and slabs, one tile beside a ragged one, one row."""


class Rows:
    """One set of rows, ids that repeat, and bounds near its scores."""

    def __init__(self, seed: int, n: int, similarity: Any, dtype: torch.dtype) -> None:
        generator = torch.Generator().manual_seed(seed)
        self.draw = lambda *size: torch.randn(*size, generator=generator)
        self.x = self.draw(n, 21).to(dtype)
        self.ids = torch.randint(max(1, n // 4), (n,), generator=generator)
        self.similarity, self.rng = similarity, random.Random(seed)

    def bound(self) -> Tensor:
        """In the middle of the widest gap among the middle scores of every row, where no rounding reaches."""
        x = self.x.double()
        scores = self.similarity(x, x).sort(dim=1).values
        quarter = len(x) // 4
        middle = scores[:, quarter : len(x) - quarter]
        if middle.shape[1] < 2:
            return (middle[:, 0] + 0.1).float()
        widest = middle.diff(dim=1).argmax(1, keepdim=True)
        return middle.gather(1, torch.cat([widest, widest + 1], 1)).mean(1).float()

    def window(self) -> Window:
        return self.rng.choice([Window(row_floor=self.bound()), Window(None, self.bound())])

    def comparison(self, x: Tensor) -> Comparison:
        return Comparison(x, x, self.similarity, Relation(self.ids, self.ids, same_set=True))


def spied(monkeypatch: pytest.MonkeyPatch) -> list[Engine]:
    """The engines that are asked."""
    seen: list[Engine] = []
    choose = Fused().scores(Rows(0, 2, Dot(), torch.float32).comparison(torch.ones(2, 2)))
    kind = type(choose)
    plain = kind.engine_for

    def engine_for(self: Any, request: Any) -> Engine:
        seen.append(plain(self, request))
        return seen[-1]

    monkeypatch.setattr(kind, "engine_for", engine_for)
    return seen


def differentiated(
    run: Callable[[Scores, Sequence[Tensor]], Result],
    backend: Backend,
    rows: Rows,
    more: Sequence[Tensor],
    double: bool = False,
) -> tuple[list[Tensor], list[Tensor]]:
    """Results and gradients of the rows, which are reached through a product, and of ``more``; counts."""
    kind = (lambda x: x.double()) if double else (lambda x: x)
    x, *others = leaves = [kind(y).detach().clone().requires_grad_() for y in (rows.x, *more)]
    value, results, counts = run(backend.scores(rows.comparison(x * 1)), others)
    gradients = torch.autograd.grad(value, leaves, allow_unused=True)
    known = [
        torch.zeros_like(y) if g is None else g for g, y in zip(gradients, leaves, strict=True)
    ]
    return [y.detach() for y in results] + known, counts


def check(run: Callable[..., Result], rows: Rows, more: Sequence[Tensor]) -> None:
    """As near to float64's as rounding allows; equal counts."""
    found, counts = differentiated(run, Fused(), rows, more)
    eager, _ = differentiated(run, Dense(), rows, more)
    exact = Dense(), rows, more, True
    assert_rounded(found, eager, lambda: differentiated(run, *exact)[0])
    for x, right in zip(counts, differentiated(run, *exact)[1], strict=True):
        assert torch.equal(x, right)


def finite(x: Tensor) -> Tensor:
    return torch.where(x.isfinite(), x, 0.0)


SELECTIONS = (
    Selection("highest", 1, fallback="easiest"),
    Selection("lowest", 1, fallback="hardest"),
    Selection("random", 1),
    Selection("highest", 3, fallback="easiest"),
)
KINDS = [(s, d, n) for s in SYMMETRIC for d in DTYPES for n in SIZES]
# of the largest one type of each similarity, every type of two of them
USUAL = [n < SIZES[0] or (i // 9 + i // 3) % 3 == 0 for i, (*_, n) in enumerate(KINDS)]
SEEDS = [
    pytest.param(seed, marks=() if usual else pytest.mark.full) for seed, usual in enumerate(USUAL)
]


@pytest.mark.parametrize("seed", SEEDS)
def test_sums_and_totals(seed: int) -> None:
    rows = Rows(seed, KINDS[seed][2], *KINDS[seed][:2])
    n, rng = len(rows.x), rows.rng
    penalty = rng.choice([Hinge(), SquaredHinge(), Logistic(), Identity()])
    told = {"among": rng.choice(["negatives", "positives"]), "sign": rng.choice([1.0, -1.0])}
    told |= {"window": rng.choice([Window(), rows.window()]), "maxima": rng.random() < 0.5}
    scaled, whole = rng.random() < 0.5, rng.random() < 0.5
    thresholds, weights = rows.bound(), rows.draw(n).abs()

    def run(scores: Scores, leaves: Sequence[Tensor]) -> Result:
        scale = leaves[1] if scaled else None
        terms = PenaltyTerms(penalty, leaves[0], scale=scale, **told)
        weight = weights.to(leaves[0].dtype)
        if whole:
            found = scores.penalty_total(terms, weight)
            return found.value, [found.value, found.row_maxima], [found.row_counts]
        sums = scores.penalty_sum(terms)
        return (sums.rows * weight).sum(), [sums.rows, sums.row_maxima], [sums.row_counts]

    check(run, rows, [thresholds, torch.tensor(1.5)])


@pytest.mark.parametrize("seed", SEEDS)
def test_logsumexp(seed: int) -> None:
    rows = Rows(100 + seed, KINDS[seed][2], *KINDS[seed][:2])
    rng, weights = rows.rng, rows.draw(len(rows.x))
    energy = rng.choice([Linear(), Linear(3.0, 0.2), CircleNegative(0.25, 4.0)])
    among, window = rng.choice(["negatives", "positives"]), rng.choice([Window(), rows.window()])

    def run(scores: Scores, leaves: Sequence[Tensor]) -> Result:
        terms = ExponentialTerms(energy, among, leaves[0], window, columns=False)
        found = scores.logsumexp(terms)
        value = (finite(found.rows) * weights.to(found.rows.dtype)).sum()
        return value, [found.rows, found.row_maxima], []

    check(run, rows, [torch.tensor(0.7)])


@pytest.mark.parametrize("similarity", SYMMETRIC, ids=str)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_the_first(similarity: Any, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same choice as of two tensors, of which every score is looked at: ties, bounds, fallbacks, draws."""
    seen = spied(monkeypatch)
    for place, n in enumerate(SIZES[:2]):
        kind = KINDS.index((similarity, dtype, n))
        rows = Rows(kind, n, similarity, dtype)
        if similarity in (Dot(), SquaredEuclidean()):
            rows.x = rows.x.round()  # ties
        one = rows.comparison(rows.x)
        two = Comparison(rows.x, rows.x.clone(), similarity, one.relation)
        among, window = rows.rng.choice(["negatives", "positives"]), rows.window()
        told = {"seed": torch.tensor(7), "columns": False, "hardest": rows.rng.random() < 0.5}
        other = SELECTIONS[(kind // 3 + place) % len(SELECTIONS)]
        plain = Search(Selection("highest", 1), columns=False)
        for search in (plain, Search(other, among, window, **told)):
            found, whole = (Fused().scores(x).select(search) for x in (one, two))
            assert [engine.one_set for engine in seen] == [True, False]
            seen.clear()
            for x, right in zip(found, whole, strict=True):
                assert torch.equal(x, right)


LOSSES: dict[str, Callable[..., Any]] = {
    "NT-Xent": lambda x, ids, **o: H.nt_xent_loss(x, ids, temperature=0.2, **o),
    "SupCon": lambda x, ids, **o: H.sup_con_loss(x, ids, temperature=0.2, **o),
    "multi-similarity": H.multi_similarity_loss,
    "circle": lambda x, ids, **o: H.circle_loss(x, ids, gamma=8.0, **o),
    "pairwise": H.pairwise_contrastive_loss,
    "margin": H.margin_loss,
    "batch hard": lambda x, ids, **o: H.triplet_loss(x, ids, positives="hardest", **o),
    "semi-hard": lambda x, ids, **o: H.triplet_loss(x, ids, negatives=SemiHard(), **o),
}


@pytest.mark.parametrize(
    ("name", "dtype"),
    [
        pytest.param(name, dtype, marks=() if i % 2 == j else pytest.mark.full)
        for i, name in enumerate(LOSSES)
        for j, dtype in enumerate((torch.float32, torch.bfloat16))
    ],
    ids=str,
)
def test_losses_on_labels(name: str, dtype: torch.dtype) -> None:
    rows = Rows(3, 91, Cosine(), dtype)

    def run(x: Tensor, backend: str) -> list[Tensor]:
        x = x.detach().clone().requires_grad_()
        value, stats = LOSSES[name](x, rows.ids.int(), return_stats=True, backend=backend)
        numbers = [torch.as_tensor(y, dtype=torch.float64).mean() for y in vars(stats).values()]
        return [value.detach(), *torch.autograd.grad(value, x), torch.stack(numbers)]

    found, eager = (run(rows.x, backend) for backend in ("triton", "dense"))
    assert_rounded(found, eager, lambda: run(rows.x.double(), "dense"))


def test_only_where_the_gradient_belongs_to_one_tensor(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two tensors in one place have gradients of their own; an order, masks and columns are not symmetric."""
    seen = spied(monkeypatch)
    x, ids = torch.randn(50, 7), torch.arange(50) // 3
    told = Relation(ids, ids, same_set=True)
    mask = torch.rand(50, 50) < 0.1
    rows, both = ExponentialTerms(Linear(), columns=False), ExponentialTerms(Linear())
    for comparison, terms in (
        (Comparison(x, x.detach(), Dot(), told), rows),
        (Comparison(x, x, Order(), told), rows),
        (Comparison(x, x, Dot(), told), both),
        (Comparison(x, x, Dot(), Relation(ids, ids.clone(), same_set=True)), rows),
        (Comparison(x, x, Dot(), Relation(positives=mask, same_set=True)), rows),
        (Comparison(x, x, Dot(), Relation(ids, ids, ignore=mask, same_set=True)), rows),
        (Comparison(x, x, Dot(), Relation(ids, ids)), rows),
        (Comparison(x, x, Dot(), Relation(ids, ids, same_set=True, row_offset=3)), rows),
    ):
        found, right = (by.scores(comparison).logsumexp(terms).rows for by in (Fused(), Dense()))
        torch.testing.assert_close(found, right)
    assert not any(engine.one_set for engine in seen)
    Fused().scores(Comparison(x, x, Dot(), told)).logsumexp(rows)
    assert seen[-1].one_set


# NumPy, with which the interpreter computes, warns of them.
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize("name", ["NT-Xent", "SupCon", "pairwise", "batch hard"])
def test_a_number_that_is_none_makes_the_loss_nan(name: str) -> None:
    rows = Rows(5, 60, Cosine(), torch.float32)
    rows.x[41, 3] = torch.nan
    x = rows.x.requires_grad_()
    value = LOSSES[name](x, rows.ids, backend="triton")
    assert value.isnan()
    assert torch.autograd.grad(value, x)[0].isnan().any()
