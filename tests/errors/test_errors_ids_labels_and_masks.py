"""Ids, labels and masks."""

from __future__ import annotations

from typing import Any

import pytest
from error_calls import EYE, IDS, X, Y, of_pairs, one_of_each, raised, says
from every_loss import ONE_OF_EACH, Case

from hardneg.functional import (
    contrastive_loss,
    info_nce_loss,
)

of_labels = pytest.mark.parametrize(
    "which", [w for w in ONE_OF_EACH if w.kind == "labelled"], ids=lambda which: which.name
)


BAD_IDS = [
    ("too few", IDS[:3], ValueError, ("(3,)", "expected (4,)")),
    ("a matrix", IDS[:, None], ValueError, ("(4, 1)", "expected (4,)")),
    ("floats", IDS.float(), TypeError, ("torch.float32", "integers", "call .long()")),
    ("booleans", IDS > 0, TypeError, ("torch.bool", "integers")),
    ("a list", [0, 0, 1, 1], TypeError, ("is a list", "integer tensor of shape (4,)")),
    ("elsewhere", IDS.to("meta"), ValueError, ("meta", "cpu", "where the embeddings are")),
]


bad_ids = pytest.mark.parametrize(
    ("bad", "error", "parts"), [b[1:] for b in BAD_IDS], ids=[b[0] for b in BAD_IDS]
)


@bad_ids
@of_pairs
def test_bad_ids(which: Case, bad: Any, error: type[Exception], parts: tuple[str, ...]) -> None:
    says(raised(error, lambda: which(X, Y, bad, IDS)), "query_ids", *parts)
    says(raised(error, lambda: which(X, Y, IDS, bad)), "candidate_ids", *parts)


@bad_ids
@of_labels
def test_bad_labels(which: Case, bad: Any, error: type[Exception], parts: tuple[str, ...]) -> None:
    says(raised(error, lambda: which(X, None, bad)), "labels", *parts)
    says(raised(error, lambda: which(X, Y, IDS, bad)), "reference_labels", *parts)


@of_pairs
def test_one_of_two_ids(which: Case) -> None:
    message = raised(ValueError, lambda: which(X, Y, query_ids=IDS))
    says(message, "query_ids is given without candidate_ids", "both, or neither")
    message = raised(ValueError, lambda: which(X, Y, candidate_ids=IDS))
    says(message, "candidate_ids is given without query_ids", "both, or neither")


@of_labels
def test_missing_labels(which: Case) -> None:
    says(raised(ValueError, lambda: which(X)), "labels", "positive_mask", "which rows belong")
    message = raised(ValueError, lambda: which.function(X, IDS, Y))
    says(message, "reference is given without reference_labels", "both, or neither")
    message = raised(ValueError, lambda: which.function(X, IDS, None, IDS))
    says(message, "reference_labels are given without reference", "both, or neither")
    message = raised(ValueError, lambda: which.function(X, IDS, positive_mask=EYE))
    says(message, "labels or a positive_mask", "one of the two")


@of_labels
def test_choices_that_need_two_sets(which: Case) -> None:
    for directions in ("both", "candidates"):
        message = raised(ValueError, lambda d=directions: which(X, None, IDS, directions=d))
        says(message, f"directions='{directions}'", "one set", '"queries"', "reference")
    message = raised(ValueError, lambda: which(X, Y[:3], IDS, IDS[:3], same_set=True))
    says(message, "same_set", "4 embeddings", "3 reference rows")


BAD_MASKS = [
    ("floats", EYE.float(), TypeError, ("torch.float32", "bool tensor of shape (4, 4)")),
    ("integers", EYE.long(), TypeError, ("torch.int64", "bool tensor")),
    ("a list", EYE.tolist(), TypeError, ("list", "bool tensor of shape (4, 4)")),
    ("narrow", EYE[:, :3], ValueError, ("(4, 3)", "expected (4, 4)", "queries by candidates")),
    ("a vector", EYE[0], ValueError, ("(4,)", "expected (4, 4)")),
    ("elsewhere", EYE.to("meta"), ValueError, ("meta", "cpu", "where the embeddings are")),
]


@pytest.mark.parametrize(
    ("bad", "error", "parts"), [b[1:] for b in BAD_MASKS], ids=[b[0] for b in BAD_MASKS]
)
@one_of_each
def test_bad_masks(which: Case, bad: Any, error: type[Exception], parts: tuple[str, ...]) -> None:
    others = (Y,) if which.kind == "paired" else ()
    groups = {} if which.kind == "paired" else {"labels": IDS}
    call = which.function
    options = dict(which.options)
    says(
        raised(error, lambda: call(X, *others, ignore_mask=bad, **groups, **options)),
        "ignore",
        *parts,
    )
    message = raised(error, lambda: call(X, *others, positive_mask=bad, **options))
    says(message, "positive_mask", *parts)


def test_ids_and_a_mask_together() -> None:
    told = {"query_ids": IDS, "candidate_ids": IDS}
    message = raised(ValueError, lambda: contrastive_loss(X, Y, positive_mask=EYE, **told))
    says(message, "positive_mask and ids are both given")


def test_several_positives_need_ids() -> None:
    message = raised(ValueError, lambda: info_nce_loss(X, Y, positives="all"))
    says(message, 'positives="all" without ids', "query_ids", "candidate_ids", "positive_mask")
