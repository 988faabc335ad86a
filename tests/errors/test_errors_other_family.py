"""Calls that suit another family of losses or another library name what to write instead."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from error_calls import IDS, X, Y, of_pairs, raised, says
from every_loss import numbers

import hardneg
from hardneg import (
    All,
    ContrastiveLoss,
    Hardest,
    InfoNCELoss,
    MemoryQueue,
    NTXentLoss,
    SupConLoss,
    TripletLoss,
    Warmup,
)
from hardneg.functional import contrastive_loss

Z = X.flip(0)
LISTS = (IDS, IDS, IDS)
ON_LABELS = ("TripletLoss()(embeddings, labels)", "SupConLoss")
ON_PAIRS = ("InfoNCELoss()(queries, candidates)",)
ON_SCORES = ("loss.from_scores(scores)",)
QUEUE = ("wraps no loss", "MemoryQueue(size, width)")
INDEX_LISTS = ("from_triplets(embeddings, *triplets)", "from_pairs(embeddings, *pairs)")
SCHEDULE = Warmup(All(), Hardest(), 3)
MISTAKES: dict[str, tuple[Callable[[], Any], tuple[str, ...]]] = {
    "labels": (lambda: InfoNCELoss()(X, IDS), ("candidates has shape (4,)", *ON_LABELS)),
    "labels beside pairs": (lambda: ContrastiveLoss()(X, Y, labels=IDS), ("'labels'", *ON_LABELS)),
    "labels of scores": (
        lambda: ContrastiveLoss().from_scores(X @ Y.T, labels=IDS),
        ("from_scores", "'labels'", *ON_LABELS),
    ),
    "rows as labels": (lambda: SupConLoss()(X, Y), ("labels", "(4, 3)", *ON_PAIRS)),
    "three tensors": (lambda: TripletLoss()(X, Y, Z), ("labels", "own_negatives=negatives")),
    "one tensor three times": (lambda: TripletLoss()(X, X, X), ("labels", "share_negatives=False")),
    "queries to a loss on labels": (lambda: SupConLoss()(X, candidates=Y), ON_PAIRS),
    "an index tuple": (
        lambda: TripletLoss()(X, IDS, LISTS),
        ("reference is a tuple", *INDEX_LISTS),
    ),
    "indices_tuple": (lambda: TripletLoss()(X, IDS, indices_tuple=LISTS), INDEX_LISTS),
    "a tuple to from_triplets": (lambda: TripletLoss().from_triplets(X, LISTS), INDEX_LISTS),
    "a tuple to from_pairs": (lambda: SupConLoss().from_pairs(X, (*LISTS, IDS)), INDEX_LISTS),
    "two lists to from_triplets": (
        lambda: TripletLoss().from_triplets(X, IDS, IDS),
        ("negatives is a NoneType", "row numbers"),
    ),
    "pytorch-metric-learning's reference": (
        lambda: TripletLoss()(X, IDS, ref_emb=Y, ref_labels=IDS),
        ("reference=",),
    ),
    "a class": (lambda: ContrastiveLoss(negatives=Hardest), ("Hardest'>, a class", "Hardest()")),
    "a schedule": (lambda: ContrastiveLoss(negatives=SCHEDULE), ("negatives=schedule(step)",)),
    "a schedule to the call": (
        lambda: ContrastiveLoss()(X, Y, negatives=SCHEDULE),
        ("negatives=schedule(step)",),
    ),
    "tensors to the constructor": (
        lambda: ContrastiveLoss(X, Y),
        ("negatives is a tensor of shape (4, 3)", "ContrastiveLoss()(queries, candidates)"),
    ),
    "a temperature to the call": (
        lambda: InfoNCELoss()(X, Y, temperature=0.1),
        ("belongs to the loss", "InfoNCELoss(temperature="),
    ),
    "labels without candidates": (lambda: InfoNCELoss()(X, labels=IDS), ("'labels'", *ON_LABELS)),
    "scores alone": (lambda: InfoNCELoss()(X @ Y.T), ("queries and candidates", *ON_SCORES)),
    "scores and targets": (lambda: InfoNCELoss()(X @ Y.T, IDS), (*ON_LABELS, *ON_SCORES)),
    "nothing to pairs": (lambda: InfoNCELoss()(), ("takes queries and candidates",)),
    "nothing to labels": (lambda: SupConLoss()(), ("takes embeddings and labels",)),
    "triples by name": (
        lambda: TripletLoss()(anchor=X, positive=Y, negative=Z),
        ("'anchor'", "own_negatives=negatives"),
    ),
    "a negative for each query, third": (
        lambda: InfoNCELoss()(X, Y, Z),
        ("all else by name", "InfoNCELoss(..., directions='queries')", "negatives.unsqueeze(1)"),
    ),
    "negatives for each query, third": (
        lambda: InfoNCELoss()(X, Y, torch.stack([Y, Z], 1)),
        ("own_negatives=negatives, share_negatives=False",),
    ),
    "negatives for all queries, third": (
        lambda: InfoNCELoss()(X, Y, numbers(7, 3, 2)),
        ("torch.cat([candidates, negatives])",),
    ),
    "ids third": (lambda: ContrastiveLoss()(X, Y, IDS), ("query_ids=ids, candidate_ids=ids",)),
    "a scale third": (lambda: InfoNCELoss()(X, Y, 20.0), ("temperature=1 / s",)),
    "two views": (lambda: NTXentLoss()(X, Y), ("torch.cat([a, b])", ".repeat(2)")),
    "Hadsell's loss": (lambda: ContrastiveLoss()(X, IDS), ("PairwiseContrastiveLoss()",)),
    "labels to InfoNCE": (lambda: InfoNCELoss()(X, IDS), ("NTXentLoss()",)),
    "SigLIP's numbers": (
        lambda: hardneg.SigmoidLoss(logit_scale=10, logit_bias=-10),
        ("temperature=Learned", "integrations.open_clip"),
    ),
    "SigLIP's bias": (lambda: hardneg.SigmoidLoss(logit_bias=-10), ("bias=", "Learned(-10.0)")),
    "tensors of negatives": (
        lambda: InfoNCELoss()(X, Y, negatives=Z),
        ("negatives is a tensor of shape (4, 3)", "own_negatives="),
    ),
    "labels to mined": (lambda: InfoNCELoss().mined(X, IDS), ON_LABELS),
    "VSE++'s constructor": (
        lambda: ContrastiveLoss(max_violation=True),
        ("'max_violation'", "negatives='hardest'"),
    ),
    "VSE++'s constructor in a function": (
        lambda: contrastive_loss(X, Y, max_violation=True),
        ("'max_violation'", "negatives='hardest'"),
    ),
    "sentence-transformers' scale": (lambda: InfoNCELoss(scale=20), ("temperature=0.05",)),
    "pytorch-metric-learning's distance": (
        lambda: TripletLoss(distance="cosine"),
        ("similarity='cosine'",),
    ),
    "a temperature to a hinge": (
        lambda: ContrastiveLoss(temperature=0.1),
        ("ContrastiveLoss", "InfoNCELoss(temperature="),
    ),
    "ids to the constructor": (
        lambda: ContrastiveLoss(query_ids=IDS),
        ("belongs to the call", "query_ids="),
    ),
    "an old name to the constructor": (
        lambda: InfoNCELoss(learnable_temperature=True),
        ("Learned(0.07)",),
    ),
    "nothing known to the constructor": (
        lambda: InfoNCELoss(sunshine=1),
        ("'sunshine'", "it takes temperature, negatives"),
    ),
    "a number of negatives": (lambda: ContrastiveLoss(negatives=8), ("TopK(8)",)),
    "a loss in a queue": (lambda: MemoryQueue(InfoNCELoss(), 64, 3), QUEUE),
    "a loss in a queue of a size": (lambda: MemoryQueue(InfoNCELoss(), size=64), QUEUE),
    "a mask of numbers": (
        lambda: ContrastiveLoss()(X, Y, ignore_mask=torch.zeros(4, 4)),
        ("ignore_mask", "call .bool() on it"),
    ),
    "own mask of numbers": (
        lambda: ContrastiveLoss()(
            X, Y, own_negatives=Z.unsqueeze(1), own_ignore_mask=torch.zeros(4, 1)
        ),
        ("own_ignore_mask", "call .bool() on it"),
    ),
    "nothing known": (lambda: InfoNCELoss()(X, Y, sunshine=1), ("unexpected", "'sunshine'")),
}


@pytest.mark.parametrize(("call", "parts"), MISTAKES.values(), ids=MISTAKES)
def test_it_says_what_to_write(call: Callable[[], Any], parts: tuple[str, ...]) -> None:
    says(raised(TypeError, call), *parts)


@of_pairs
def test_labels_in_place_of_candidates(which) -> None:
    says(raised(TypeError, lambda: which.function(X, IDS)), "candidates has shape (4,)", *ON_LABELS)


def test_what_it_says_of_triples_is_the_triplet_loss_of_torch() -> None:
    loss = ContrastiveLoss(1.0, directions="queries", similarity="euclidean")
    found = loss(X, Y, own_negatives=Z.unsqueeze(1), share_negatives=False)
    torch.testing.assert_close(
        found, torch.nn.TripletMarginLoss(1.0)(X, Y, Z), rtol=1e-5, atol=1e-5
    )


class Renamed(ContrastiveLoss):
    """A loss of one's own with a keyword of its own."""

    def __init__(self, slack: float = 0.3) -> None:
        super().__init__(slack)


class Forwarding(ContrastiveLoss):
    """A loss of one's own that hands its keywords on."""

    def __init__(self, **choices: Any) -> None:
        super().__init__(**choices)


@pytest.mark.parametrize(
    ("which", "loss"), [(1, ContrastiveLoss), (2, InfoNCELoss)], ids=["a row", "rows"]
)
def test_what_it_says_of_a_third_tensor_can_be_called(which: int, loss: type) -> None:
    """``InfoNCE(X, Y, negatives)`` of info-nce-pytorch, written out."""
    negatives = torch.stack([Z, Y.flip(0)], 1)[:, :which]
    found = loss(directions="queries", negatives="all")(
        X, Y, own_negatives=negatives, share_negatives=False
    )
    if loss is InfoNCELoss:
        x, y, z = (torch.nn.functional.normalize(one, dim=-1) for one in (X, Y, negatives))
        logits = torch.cat([(x * y).sum(1, keepdim=True), torch.einsum("nd,nkd->nk", x, z)], 1)
        expected = torch.nn.functional.cross_entropy(logits / 0.07, torch.zeros_like(IDS))
        torch.testing.assert_close(found, expected)
    assert found.isfinite()


def test_views_of_each_sample() -> None:
    views = torch.stack([X, Y], 1)
    message = raised(ValueError, lambda: SupConLoss()(views, IDS))
    says(message, "flatten(0, 1)", "labels.repeat_interleave(views)")


def test_labels_as_candidates_of_a_metric() -> None:
    message = raised(ValueError, lambda: hardneg.metrics.map_at_r(X, IDS))
    says(message, "(4,)", "labels, labels, same_set=True")


def test_several_candidates_a_query_of_a_metric() -> None:
    many = torch.cat([X, Y, Y + 1])
    message = raised(ValueError, lambda: hardneg.metrics.ranks(X, many))
    says(message, "4 queries and 12 = 3 x 4", "repeat_interleave(3)", "torch.arange(12)")
    rows = torch.arange(4)
    several = hardneg.metrics.ranks(X, many, rows, rows.repeat(3))
    alone = hardneg.metrics.ranks(X, many, rows, torch.arange(12))
    assert several.tolist() == [0, 0, 0, 0]
    assert alone.tolist() == hardneg.metrics.ranks(X, many[:11]).tolist()


def test_subclasses_have_keywords_of_their_own() -> None:
    assert Renamed(slack=0.1).margin == Forwarding(margin=0.1).margin == 0.1
    assert "Renamed(" in repr(Renamed())
    assert "Forwarding(" in repr(Forwarding())
    says(raised(TypeError, lambda: Renamed(margin=0.1)), "'margin'", "Renamed")


def test_modules_are_found_on_the_package() -> None:
    for name in hardneg.MODULES:
        assert getattr(hardneg, name).__name__ == f"hardneg.{name}"
        assert name in dir(hardneg)


def test_a_parameter_as_temperature_is_trained() -> None:
    temperature = torch.nn.Parameter(torch.tensor(0.5, dtype=X.dtype))
    loss = hardneg.InfoNCELoss(temperature=temperature)
    assert [*loss.parameters()] == [temperature]
    loss(X, Y).backward()
    assert temperature.grad.abs() > 0
