"""A strategy, a penalty, a similarity and a loss, each added from outside the package in a few lines."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
import torch
from torch import Tensor

from hardneg import ContrastiveLoss, InfoNCELoss, TopK, TripletLoss
from hardneg.losses.base import PairLoss
from hardneg.losses.call import Call
from hardneg.losses.terms.reduction import Both
from hardneg.losses.terms.softmax import one_positive
from hardneg.negatives import Hardest, Negatives, Selection
from hardneg.penalties import Hinge
from hardneg.similarities import Cosine

BACKENDS = ("dense", "tiled", "auto")


def embeddings(n: int = 40, m: int = 50) -> tuple[Tensor, Tensor]:
    g = torch.Generator().manual_seed(0)
    sides = (torch.randn(rows, 6, generator=g, dtype=torch.float64) for rows in (n, m))
    q, c = (x.requires_grad_() for x in sides)
    return q, c


def assert_same(value: Tensor, expected: Tensor, *leaves: Tensor) -> None:
    """One value and one gradient."""
    torch.testing.assert_close(value, expected)
    found = torch.autograd.grad(value, leaves)
    for x, y in zip(found, torch.autograd.grad(expected, leaves), strict=True):
        torch.testing.assert_close(x, y)


@dataclass(frozen=True)
class SecondHardest(Negatives):
    """The negative that scores second highest."""

    def selection(self, width: int) -> Selection:
        return Selection("highest", 2, skip=1)


@dataclass(frozen=True)
class Moderate(Negatives):
    """The k negatives whose scores are nearest to a level."""

    level: float = 0.2
    k: int = 3

    def selection(self, width: int) -> Selection:
        return Selection(lambda scores: -(scores - self.level).abs(), self.k)


class Quiet(Hardest):
    """A subclass of a built-in strategy."""


@dataclass(frozen=True)
class Cubic:
    """``max(0, x) ** 3``."""

    def value(self, x: Tensor) -> Tensor:
        return x.relu() ** 3

    def slope(self, x: Tensor) -> Tensor:
        return 3 * x.relu() ** 2


@dataclass(frozen=True)
class Bilinear:
    """``q @ W @ c.T`` with a fixed matrix."""

    weight: Tensor

    def __call__(self, queries: Tensor, candidates: Tensor) -> Tensor:
        return queries @ self.weight @ candidates.T


class SharpNCELoss(PairLoss):
    """InfoNCE at a fixed inverse temperature."""

    def __init__(self, sharpness: float = 10.0, negatives: Negatives | str = "all", **options: str):
        directions, reduction = options.get("directions", "both"), options.get("reduction", "mean")
        super().__init__(negatives, "cosine", directions, reduction, options.get("backend", "auto"))
        self.sharpness = sharpness

    average = True

    def terms(self, call: Call) -> Both:
        scale = torch.full((), self.sharpness, dtype=call.scores.dtype, device=call.scores.device)
        return one_positive(call, scale, 0.0)

    def extra_repr(self) -> str:
        return f"sharpness={self.sharpness}"


def normalised(q: Tensor, c: Tensor) -> Tensor:
    return torch.nn.functional.normalize(q) @ torch.nn.functional.normalize(c).T


@pytest.mark.parametrize("backend", BACKENDS)
def test_own_strategy(backend: str) -> None:
    q, c = embeddings(50, 50)
    value = ContrastiveLoss(negatives=SecondHardest(), backend=backend)(q, c)
    s = normalised(q, c)
    others = s - 1e9 * torch.eye(50, dtype=s.dtype)
    x = (0.2 - s.diag() + others.topk(2, dim=1).values[:, 1]).relu().mean()
    y = (0.2 - s.diag() + others.topk(2, dim=0).values[1]).relu().mean()
    assert_same(value, x + y, q, c)


@pytest.mark.parametrize("backend", BACKENDS)
def test_subclass_of_a_strategy(backend: str) -> None:
    q, c = embeddings()
    value = ContrastiveLoss(negatives=Quiet(), backend=backend)(q, c)
    assert_same(value, ContrastiveLoss(negatives="hardest", backend=backend)(q, c), q, c)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("negatives", ["all", "hardest", TopK(3), "semihard"])
def test_own_penalty(negatives: object, backend: str) -> None:
    q, c = embeddings(50, 50)
    value = ContrastiveLoss(negatives=negatives, penalty=Cubic(), backend=backend)(q, c)
    expected = ContrastiveLoss(negatives=negatives, penalty=Cubic(), backend="dense")(q, c)
    assert_same(value, expected, q, c)
    if negatives == "all":
        s = normalised(q, c)
        off = 1 - torch.eye(50, dtype=s.dtype)
        x = ((0.2 - s.diag()[:, None] + s).relu() ** 3 * off).sum(1).mean()
        y = ((0.2 - s.diag()[None] + s).relu() ** 3 * off).sum(0).mean()
        assert_same(
            ContrastiveLoss(negatives="all", penalty=Cubic(), backend=backend)(q, c), x + y, q, c
        )


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("negatives", ["all", "semihard", "hardest"])
def test_own_penalty_on_labels(negatives: str, backend: str) -> None:
    x, _ = embeddings()
    labels = torch.arange(40) // 5
    options = {"positives": "all", "negatives": negatives, "penalty": Cubic()}
    value = TripletLoss(**options, backend=backend)(x, labels)
    assert_same(value, TripletLoss(**options, backend="dense")(x, labels), x)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("negatives", ["all", "hardest", TopK(3)])
def test_own_similarity(negatives: object, backend: str) -> None:
    q, c = embeddings()
    weight = torch.randn(6, 6, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    value = InfoNCELoss(0.5, negatives, Bilinear(weight), backend=backend)(q, c)
    expected = InfoNCELoss(0.5, negatives, "dot", backend="dense")(q @ weight, c)
    assert_same(value, expected, q, c)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("negatives", ["all", "hardest", TopK(3)])
def test_own_loss(negatives: object, backend: str) -> None:
    q, c = embeddings()
    loss = SharpNCELoss(10.0, negatives, backend=backend)
    assert repr(loss) == "SharpNCELoss(sharpness=10.0)"
    expected = InfoNCELoss(0.1, negatives, backend="dense")
    assert_same(loss(q, c), expected(q, c), q, c)
    ids = torch.arange(50) // 2
    value, stats = loss(q, c, query_ids=ids[:40], candidate_ids=ids, return_stats=True)
    other, expected_stats = expected(q, c, query_ids=ids[:40], candidate_ids=ids, return_stats=True)
    assert_same(value, other, q, c)
    assert stats.as_dict() == pytest.approx(expected_stats.as_dict())


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("directions", ["queries", "both"])
def test_own_order_of_a_selection(backend: str, directions: str) -> None:
    q, c = embeddings(40, 40)
    strategy = Moderate()
    loss = ContrastiveLoss(1.0, strategy, directions=directions, backend=backend)
    s = torch.nn.functional.normalize(q) @ torch.nn.functional.normalize(c).T
    own = torch.eye(40, dtype=torch.bool)
    expected = torch.zeros((), dtype=torch.float64)
    for matrix in (s, s.T)[: 1 if directions == "queries" else 2]:
        distance = (matrix - strategy.level).abs().masked_fill(own, torch.inf)
        chosen = distance.topk(strategy.k, largest=False).indices
        terms = 1.0 - matrix.diagonal()[:, None] + matrix.gather(1, chosen)
        expected = expected + terms.relu().sum() / 40
    assert_same(loss(q, c), expected, q, c)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("loss", [TripletLoss, InfoNCELoss], ids=["triplet", "softmax"])
def test_own_order_with_several_positives(backend: str, loss: type) -> None:
    """Ranked once for every pair of an anchor and a positive."""
    q, _ = embeddings(45)
    labels = torch.arange(45) % 9
    options = {"positives": "all", "negatives": Moderate()}
    given = (q, labels)
    if loss is InfoNCELoss:
        options["directions"], given = "queries", (q, q.detach() * 2)
        ids = {"query_ids": labels, "candidate_ids": labels}
    else:
        ids = {}
    value = loss(backend=backend, **options)(*given, **ids)
    assert_same(value, loss(backend="dense", **options)(*given, **ids), q)


@dataclass(frozen=True)
class DoubleHinge(Hinge):
    """Twice a built-in penalty, as a subclass of it."""

    def value(self, x: Tensor) -> Tensor:
        return 2 * super().value(x)

    def slope(self, x: Tensor) -> Tensor:
        return 2 * super().slope(x)


@dataclass(frozen=True)
class HalfCosine(Cosine):
    """Half of a built-in similarity, and not the same with exchanged sides."""

    def __call__(self, queries: Tensor, candidates: Tensor) -> Tensor:
        return super().__call__(queries, candidates) / 2 + 0.1 * candidates[:, 0]


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("negatives", ["all", "hardest", TopK(3)])
def test_subclass_of_a_penalty(negatives: object, backend: str) -> None:
    q, c = embeddings(50, 50)
    value = ContrastiveLoss(negatives=negatives, penalty=DoubleHinge(), backend=backend)(q, c)
    assert_same(value, 2 * ContrastiveLoss(negatives=negatives, backend=backend)(q, c), q, c)
    labels = torch.arange(50) % 5
    options = {"positives": "all", "negatives": negatives, "backend": backend}
    value = TripletLoss(penalty=DoubleHinge(), **options)(q, labels)
    assert_same(value, 2 * TripletLoss(**options)(q, labels), q)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("negatives", ["all", "hardest"])
def test_subclass_of_a_similarity(negatives: object, backend: str) -> None:
    q, c = embeddings(50, 50)
    value = ContrastiveLoss(0.4, negatives, similarity=HalfCosine(), backend=backend)(q, c)

    def plain(x: Tensor, y: Tensor) -> Tensor:
        return normalised(x, y) / 2 + 0.1 * y[:, 0]

    expected = ContrastiveLoss(0.4, negatives, similarity=plain, backend="dense")(q, c)
    assert_same(value, expected, q, c)
