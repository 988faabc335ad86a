"""Every form of a call: gradients by differences, autocast, what is not a number, and nothing to compare with."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from every_loss import numbers
from torch import Tensor

from hardneg import (
    All,
    Ceiling,
    CircleLoss,
    ContrastiveLoss,
    Debiased,
    HardnessWeighted,
    InfoNCELoss,
    LabelSmoothing,
    MultiSimilarityLoss,
    NTXentLoss,
    PairwiseContrastiveLoss,
    SigmoidLoss,
    SupConLoss,
    TopK,
    TripletLoss,
)

Form = Callable[[Tensor, Tensor], Any]
RANGE = {"min_score": -0.8, "max_score": 0.7}


def called(loss: Any, **options: Any) -> Form:
    """A loss on pairs; functions among the options are asked for the value, by the queries."""

    def form(q: Tensor, c: Tensor) -> Any:
        told = {name: x(q) if callable(x) else x for name, x in options.items()}
        return loss(q, c, **told)

    return form


def labels(x: Tensor) -> Tensor:
    return torch.arange(len(x)) // 2


def own(x: Tensor) -> Tensor:
    """Own negatives that depend on nothing."""
    return numbers(3 * len(x), x.shape[1], 9, torch.float64).view(len(x), 3, -1).to(x)


def guide(x: Tensor) -> tuple[Tensor, Tensor]:
    return numbers(len(x), 3, 7), numbers(len(x), 3, 8)


def row_weights(x: Tensor) -> Tensor:
    return torch.linspace(0.5, 1.5, len(x))


def triplets(x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    rows = torch.arange(len(x) - 2 if len(x) > 2 else 0)
    return rows, rows + 1, rows + 2


def of_labels(loss: Any) -> Form:
    return lambda q, c: loss(q, labels(q), c, labels(c))


def of_lists(loss: Any) -> Form:
    return lambda q, c: loss.from_triplets(q, *triplets(q), c)


ALL_IN_RANGE = All(Ceiling(0.95, 0.3), **RANGE)
FORMS: dict[str, Form] = {
    "own negatives": called(InfoNCELoss(0.3), own_negatives=own),
    "own negatives, hardest": called(ContrastiveLoss(0.5, TopK(2)), own_negatives=own),
    "own negatives alone": called(
        InfoNCELoss(0.3, directions="queries"), own_negatives=own, share_negatives=False
    ),
    "guide": called(InfoNCELoss(0.3), guide=guide),
    "guide, hardest": called(ContrastiveLoss(0.5), guide=guide),
    "guide, own negatives": called(SigmoidLoss(bias=-1.0), guide=guide, own_negatives=own),
    "joint": called(InfoNCELoss(0.3, directions="joint")),
    "joint, guide, own negatives": called(
        InfoNCELoss(0.3, All(Ceiling(1.0, 0.2)), directions="joint"), guide=guide, own_negatives=own
    ),
    # a weight above 0 is held constant: its gradient is none of differences (tests/test_softmaxes.py)
    "hardness": called(InfoNCELoss(0.3, softmax=HardnessWeighted(0.0))),
    "smoothing": called(InfoNCELoss(0.3, softmax=LabelSmoothing(0.2))),
    "debiased": called(InfoNCELoss(0.5, softmax=Debiased(0.1))),
    "decoupled": called(InfoNCELoss(0.3, softmax="decoupled")),
    "weights": called(ContrastiveLoss(0.5, "all"), weights=row_weights),
    "range": called(InfoNCELoss(0.3, ALL_IN_RANGE)),
    "range, top 2": called(ContrastiveLoss(0.5, TopK(2, **RANGE))),
    "range, labels": of_labels(TripletLoss(0.5, negatives=ALL_IN_RANGE)),
    "mean over triplets": of_labels(TripletLoss(0.5, negatives="all", reduction="mean_triplets")),
    "mean over triplets below": of_labels(
        TripletLoss(0.5, negatives=ALL_IN_RANGE, reduction="mean_triplets")
    ),
    "mean over triplets of pairs": called(ContrastiveLoss(0.5, "all", reduction="mean_triplets")),
    "given scores": lambda q, c: InfoNCELoss(0.3).from_scores(q @ c.T),
    "given scores, labels": lambda q, c: SupConLoss(0.3).from_scores(q @ c.T, labels(q), labels(c)),
    "listed triplets": of_lists(TripletLoss(0.5)),
    "listed pairs": of_lists(PairwiseContrastiveLoss()),
    "listed NT-Xent": of_lists(NTXentLoss(0.3)),
    "listed multi-similarity": of_lists(MultiSimilarityLoss(2.0, 5.0, epsilon=0.5)),
}
every_form = pytest.mark.parametrize("name", FORMS)


def sides(dtype: torch.dtype, n: int = 7) -> tuple[Tensor, Tensor]:
    q, c = (numbers(n, 5, seed, dtype) for seed in (1, 2))
    return q.requires_grad_(), c.requires_grad_()


@every_form
def test_gradients_are_differences(name: str) -> None:
    assert torch.autograd.gradcheck(FORMS[name], sides(torch.float64))


@every_form
def test_autocast_changes_nothing(name: str) -> None:
    """Given scores are what the user's own product under autocast is."""
    q, c = sides(torch.float32)
    expected = torch.autograd.grad(FORMS[name](q, c), (q, c), allow_unused=True)
    with torch.autocast("cpu", torch.bfloat16):
        value = FORMS[name](q, c)
        found = torch.autograd.grad(value, (q, c), allow_unused=True)
    assert value.dtype == torch.float32
    loose = {"rtol": 0.1, "atol": 0.05} if "given" in name else {"rtol": 1e-5, "atol": 1e-6}
    torch.testing.assert_close(found, expected, **loose)


@every_form
@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_what_is_not_a_number_is_told(name: str, bad: float) -> None:
    q, c = sides(torch.float32)
    with torch.no_grad():
        c[4, 2] = bad
    value = FORMS[name](q, c)
    assert value.isnan()
    assert torch.autograd.grad(value, q)[0].isnan().any()


@every_form
def test_a_single_pair_has_no_rivals(name: str) -> None:
    """Finite, with a graph; 0 but for own negatives and positive pairs that are terms of their own."""
    q, c = sides(torch.float32, 1)
    value = FORMS[name](q, c)
    gradient = torch.autograd.grad(value, q, allow_unused=True)[0]
    assert value.isfinite()
    assert gradient is not None
    assert gradient.isfinite().all()
    if "own" not in name:
        assert value == 0


@pytest.mark.parametrize("name", ["mean over triplets below", "mean over triplets of pairs"])
def test_means_over_triplets_compile(name: str) -> None:
    q, c = sides(torch.float32)
    compiled = torch.compile(FORMS[name], fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(compiled(q, c), FORMS[name](q, c))


def test_circle_of_lists_holds_its_weights_constant() -> None:
    """Its gradient is none of differences: it is that of the lists of the whole batch."""
    (x, _), same = sides(torch.float64), torch.arange(7) // 2
    related = same[:, None] == same
    lists = (
        (related & ~torch.eye(7, dtype=torch.bool)).nonzero(as_tuple=True),
        (~related).nonzero(as_tuple=True),
    )
    loss = CircleLoss(gamma=8.0)
    values = loss.from_pairs(x, *lists[0], *lists[1]), loss(x, same)
    torch.testing.assert_close(*values)
    torch.testing.assert_close(*(torch.autograd.grad(value, x)[0] for value in values))
