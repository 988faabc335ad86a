"""Calls that suit another family of losses or another library name what to write instead."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from error_calls import IDS, X, Y, of_pairs, raised, says

import hardneg
from hardneg import All, ContrastiveLoss, Hardest, InfoNCELoss, SupConLoss, TripletLoss, Warmup

Z = X.flip(0)
LISTS = (IDS, IDS, IDS)
ON_LABELS = ("TripletLoss()(embeddings, labels)", "SupConLoss")
ON_PAIRS = ("InfoNCELoss()(queries, candidates)",)
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


def test_a_parameter_as_temperature_is_trained() -> None:
    temperature = torch.nn.Parameter(torch.tensor(0.5, dtype=X.dtype))
    loss = hardneg.InfoNCELoss(temperature=temperature)
    assert [*loss.parameters()] == [temperature]
    loss(X, Y).backward()
    assert temperature.grad.abs() > 0
