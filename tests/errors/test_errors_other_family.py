"""Calls that suit another family of losses or another library name what to write instead."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from error_calls import IDS, X, Y, of_pairs, raised, says

import hardneg
from hardneg import (
    All,
    ContrastiveLoss,
    Hardest,
    InfoNCELoss,
    MemoryQueue,
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
    "three tensors to a loss on pairs": (
        lambda: InfoNCELoss()(X, Y, Z),
        ("all else by name", "own_negatives=negatives"),
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
