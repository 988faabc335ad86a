"""Losses, backends and checks that the semantics share."""

from __future__ import annotations

import pytest
import torch
from every_loss import (
    BACKEND_IDS,
    BACKENDS,
    EVERY,
    FIXED,
    PAIRED,
    Case,
)
from torch import Tensor

from hardneg import (
    SemiHard,
)

backends = pytest.mark.parametrize("backend", BACKENDS, ids=BACKEND_IDS)


every = pytest.mark.parametrize("which", EVERY, ids=str)


fixed = pytest.mark.parametrize("which", FIXED, ids=str)


paired = pytest.mark.parametrize("which", PAIRED, ids=str)


SIMILARITIES = ("cosine", "dot", "euclidean", "squared_euclidean", "order")


def column(*values: float) -> Tensor:
    """Embeddings of width 1: under the dot product with 1 they are their own scores."""
    return torch.tensor(values)[:, None]


def assert_zero(found: tuple[Tensor, list[Tensor]]) -> None:
    """A loss of 0 that is still a function of its inputs."""
    assert found[0].item() == 0
    for gradient in found[1]:
        assert (gradient == 0).all()


def resolve_negatives(which: Case) -> object:
    """The strategy as an object where that is semi-hard."""
    negatives = dict(which.options).get("negatives", "semihard")
    return SemiHard() if negatives == "semihard" else negatives
