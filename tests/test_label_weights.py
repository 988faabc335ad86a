"""``weights`` of losses on labels: a whole number is that many copies of the anchor."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from every_loss import BACKEND_IDS, BACKENDS, LABELLED, Case, case, numbers
from torch import Tensor

from hardneg import All, Ceiling, MarginLoss, Matryoshka, SemiHard, SupConLoss, TripletLoss
from hardneg.functional import nt_xent_loss

N, M = 7, 11
TIMES = torch.tensor([1, 0, 3, 2, 1, 1, 2])
LABELS, REFERENCE_LABELS = torch.tensor([0, 0, 1, 2, 1, 9, 3]), torch.arange(M) % 4
FURTHER = (
    case("triplet", "labelled", positives="all", negatives=All(Ceiling(0.8))),
    case("triplet", "labelled", positives="all", negatives=SemiHard("none"), penalty="logistic"),
    case("nt_xent", "labelled", negatives=All(Ceiling(0.9))),
    case("sup_con", "labelled", negatives=SemiHard("none")),
)
backends = pytest.mark.parametrize("backend", BACKENDS, ids=BACKEND_IDS)
every = pytest.mark.parametrize("which", [*LABELLED, *FURTHER], ids=str)


def module_of(which: Case, **options: Any) -> Any:
    return which.about.module(**{**dict(which.options), **options})


def sides() -> list[Tensor]:
    return [numbers(rows, 6, seed, torch.float64) for rows, seed in ((N, 0), (M, 1))]


def assert_equal(ours: Any, theirs: Any) -> None:
    """Values and gradients."""
    first, second = ([x.requires_grad_() for x in sides()] for _ in range(2))
    value, expected = ours(*first), theirs(*second)
    torch.testing.assert_close(value, expected, rtol=1e-10, atol=1e-12)
    for a, b in zip(
        torch.autograd.grad(value, first), torch.autograd.grad(expected, second), strict=True
    ):
        assert b.abs().max() > 0
        torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-12)


@backends
@every
def test_a_whole_number_is_so_many_copies(which: Case, backend: Any) -> None:
    """The reference stays: a copy of an anchor has the same positives and negatives."""
    for reduction in ("mean", "sum", "mean_active"):
        loss = module_of(which, reduction=reduction, backend=backend)
        assert_equal(
            lambda e, r, loss=loss: loss(e, LABELS, r, REFERENCE_LABELS, weights=TIMES.double()),
            lambda e, r, loss=loss: loss(
                e.repeat_interleave(TIMES, 0),
                LABELS.repeat_interleave(TIMES),
                r,
                REFERENCE_LABELS,
            ),
        )


@every
def test_equal_weights_change_nothing(which: Case) -> None:
    """Nor do any weights change the statistics."""
    (x, _), labels = sides(), torch.tensor([0, 0, 1, 1, 1, 2, 3])
    for reduction in ("mean", "mean_active"):
        loss = module_of(which, reduction=reduction)
        value, stats = loss(x, labels, return_stats=True)
        equal = loss(x, labels, weights=torch.full((N,), 1.5))
        torch.testing.assert_close(equal, value, rtol=1e-12, atol=1e-14)
        found = loss(x, labels, weights=TIMES.double(), return_stats=True)[1]
        assert found.as_dict() == pytest.approx(stats.as_dict(), rel=1e-12)


@every
def test_terms_one_by_one_and_scores(which: Case) -> None:
    x, w = sides()[0], TIMES.double()
    loss, terms = module_of(which), module_of(which, reduction="none")
    (found, none), (plain, _) = terms(x, LABELS, weights=w), terms(x, LABELS)
    of_anchor = w
    if len(plain) != N:
        related = (LABELS[:, None] == LABELS).fill_diagonal_(False)
        of_anchor = w[related.nonzero()[:, 0]]
    torch.testing.assert_close(found, plain * of_anchor)
    assert len(none) == 0
    scores = loss.similarity(x, x)
    of_scores = loss.from_scores(scores, LABELS, weights=w)
    torch.testing.assert_close(of_scores, loss(x, LABELS, weights=w))


def test_derivatives() -> None:
    x, w = sides()[0].requires_grad_(), torch.rand(N, dtype=torch.float64)
    for loss in (
        TripletLoss(0.5, negatives="all", backend="tiled"),
        TripletLoss(0.5, negatives="semihard", backend="tiled"),
        SupConLoss(0.5),
        MarginLoss(0.5, negatives="all", backend="tiled"),
    ):
        assert torch.autograd.gradcheck(lambda e, f=loss: f(e, LABELS, weights=w), x)


def test_no_list_of_pairs() -> None:
    """Of two classes there are as many pairs as scores; the memory of a weighted loss is that of its rows."""
    x, labels = numbers(1500, 8, 0).requires_grad_(), torch.arange(1500) % 2
    for loss in (TripletLoss(negatives="all"), TripletLoss(negatives="semihard")):
        saved: list[int] = []
        with torch.autograd.graph.saved_tensors_hooks(
            lambda t, s=saved: s.append(t.numel()) or t, lambda t: t
        ):
            loss(x, labels, weights=torch.ones(1500))
        assert max(saved) <= x.numel()


def test_prefixes_functions_graphs_and_no_gradient() -> None:
    x, w = sides()[0].float(), TIMES.float()
    loss = SupConLoss()
    both = loss(x, LABELS, weights=w) + loss(x[:, :3], LABELS, weights=w)
    torch.testing.assert_close(Matryoshka(loss, (6, 3))(x, LABELS, weights=w), both)
    assert nt_xent_loss(x, LABELS, weights=w) != nt_xent_loss(x, LABELS)
    torch.compiler.reset()
    compiled = torch.compile(loss, backend="aot_eager", fullgraph=True)
    torch.testing.assert_close(compiled(x, LABELS, weights=w), loss(x, LABELS, weights=w))
    torch.compiler.reset()
    leaf = w.clone().requires_grad_()
    assert not loss(x, LABELS, weights=leaf).requires_grad
    assert loss(x, LABELS, weights=torch.zeros(N)) == 0


@pytest.mark.parametrize(
    ("weights", "error", "message"),
    [
        (2.0, TypeError, r"weights is a float: expected a tensor of shape \(7,\)"),
        (torch.ones(M), ValueError, r"weights has shape \(11,\): expected \(7,\), one number an anchor"),
        (TIMES, TypeError, "weights is torch.int64"),
    ],
)  # fmt: skip
def test_messages(weights: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        SupConLoss()(sides()[0], LABELS, weights=weights)


def test_a_reference_has_no_weights() -> None:
    e, r = sides()
    for directions in ("both", "candidates"):
        loss = SupConLoss(directions=directions)
        with pytest.raises(ValueError, match=f"weights with directions='{directions}'"):
            loss(e, LABELS, r, REFERENCE_LABELS, weights=torch.ones(N))


def test_supcon_weighs_anchors_without_a_negative_too() -> None:
    """As in the paper their positives are the whole sum; with statistics, which are of the others alone, as well."""
    (x, _), labels = sides(), torch.tensor([0, 0, 1, 1, 2, 2, 2])
    ignore = torch.zeros(N, N, dtype=torch.bool)
    ignore[4] = labels != 2
    terms = SupConLoss(reduction="none")(x, labels, ignore_mask=ignore)[0]
    w = TIMES.double() + 0.5
    for reduction in ("mean", "mean_active"):
        loss = SupConLoss(reduction=reduction)
        value, _ = loss(x, labels, ignore_mask=ignore, weights=w, return_stats=True)
        torch.testing.assert_close(value, (terms * w).sum() / w.sum())
