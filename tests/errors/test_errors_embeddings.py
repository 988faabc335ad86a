"""Embeddings."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from error_calls import IDS, X, Y, of_pairs, one_of_each, raised, says
from every_loss import Case

from hardneg.functional import (
    sigmoid_loss,
)


def names(which: Case) -> tuple[str, str]:
    return ("queries", "candidates") if which.kind == "paired" else ("embeddings", "reference")


def both(which: Case, first: Any, second: Any) -> Callable[[], Any]:
    if which.kind == "paired":
        return lambda: which(first, second)
    return lambda: which(first, second, IDS, IDS)


BAD_EMBEDDINGS = [
    ("no rows", X[:0], ValueError, ("is empty", "(0, 3)", "skip empty batches")),
    ("no width", X[:, :0], ValueError, ("is empty", "(4, 0)")),
    ("1-D", X[0], ValueError, ("(3,)", "expected (rows, width)", "flatten or pool")),
    ("3-D", X[None], ValueError, ("(1, 4, 3)", "expected (rows, width)", "flatten or pool")),
    ("integers", X.long(), TypeError, ("torch.int64", "floating-point", "call .float()")),
    ("booleans", X > 0, TypeError, ("torch.bool", "floating-point")),
    ("complex", X.cfloat(), TypeError, ("torch.complex64", "floating-point")),
    ("a list", X.tolist(), TypeError, ("is a list", "expected a tensor of shape (rows, width)")),
    ("an array", X.numpy(), TypeError, ("is a ndarray", "expected a tensor")),
    ("None", None, TypeError, ("is a NoneType", "expected a tensor")),
]


@pytest.mark.parametrize(
    ("bad", "error", "parts"), [b[1:] for b in BAD_EMBEDDINGS], ids=[b[0] for b in BAD_EMBEDDINGS]
)
@one_of_each
def test_bad_embeddings(
    which: Case, bad: Any, error: type[Exception], parts: tuple[str, ...]
) -> None:
    first, second = names(which)
    says(raised(error, both(which, bad, Y)), first, *parts)
    if which.kind == "labelled" and bad is None:
        return  # No reference: the embeddings are compared with one another.
    says(raised(error, both(which, X, bad)), second, *parts)


@one_of_each
def test_embeddings_that_do_not_fit_each_other(which: Case) -> None:
    first, second = names(which)
    message = raised(ValueError, both(which, X, Y[:, :2]))
    says(message, first, second, "(4, 3)", "(4, 2)", "project both to one width")
    message = raised(TypeError, both(which, X, Y.double()))
    says(message, first, second, "torch.float32", "torch.float64", "convert one of them")
    message = raised(ValueError, both(which, X, Y.to("meta")))
    says(message, first, second, "cpu", "meta", "move one of them")


@of_pairs
def test_fewer_candidates_than_queries(which: Case) -> None:
    message = raised(ValueError, lambda: which(X, Y[:3]))
    says(message, "4 queries", "3 candidates", "at least as many", "swap")


def test_sigmoid_loss_of_a_rectangle_from_the_candidates() -> None:
    message = raised(ValueError, lambda: sigmoid_loss(X[:3], Y, directions="both"))
    says(message, "directions", "3 queries", "4 candidates", "equal numbers")
