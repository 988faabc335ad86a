"""Calls that must raise, and what their messages must say."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from every_loss import ONE_OF_EACH, numbers

X, Y = numbers(4, 3, 0), numbers(4, 3, 1)


IDS = torch.tensor([0, 0, 1, 1])


EYE = torch.eye(4, dtype=torch.bool)


one_of_each = pytest.mark.parametrize("which", ONE_OF_EACH, ids=lambda which: which.name)


of_pairs = pytest.mark.parametrize(
    "which", [w for w in ONE_OF_EACH if w.kind == "paired"], ids=lambda which: which.name
)


def raised(error: type[Exception], call: Callable[[], Any]) -> str:
    """The message; inputs that the whole file shares are left as they were."""
    before = [t.clone() for t in (X, Y, IDS, EYE)]
    versions = [t._version for t in (X, Y, IDS, EYE)]
    with pytest.raises(error) as caught:
        call()
    assert type(caught.value) is error
    for now, then in zip((X, Y, IDS, EYE), before, strict=True):
        assert torch.equal(now, then)
    assert [t._version for t in (X, Y, IDS, EYE)] == versions
    return str(caught.value)


def says(message: str, *parts: str) -> None:
    """All of these stand in the message."""
    for part in parts:
        assert part in message, f"{part!r} is not in {message!r}"


class Bilinear(torch.nn.Module):
    """A similarity with weights of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.eye(3))

    def forward(self, queries: torch.Tensor, candidates: torch.Tensor) -> torch.Tensor:
        return queries @ self.weight @ candidates.T
