"""Numbers and shapes that change do not stop ``torch.compile(fullgraph=True)``. Without a runtime shape checker."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from covering import covering
from every_loss import numbers
from torch import Tensor
from torch._dynamo.testing import CompileCounterWithBackend

import hardneg.functional as H
from hardneg import (
    CircleLoss,
    ContrastiveLoss,
    InfoNCELoss,
    MarginLoss,
    MultiSimilarityLoss,
    SigmoidLoss,
    SupConLoss,
    TopK,
    TripletLoss,
    UnifiedPairLoss,
)

LABELS = torch.arange(12) // 3


@pytest.fixture(autouse=True)
def afresh() -> Iterator[None]:
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


def compiled_alike(
    call: Callable[..., Tensor], values: tuple[Any, ...], most: int, **how: Any
) -> None:
    """Every value gives what it gives uncompiled, from at most so many graphs."""
    counter = CompileCounterWithBackend("aot_eager")
    compiled = torch.compile(call, fullgraph=True, backend=counter, **how)
    x, y = numbers(12, 6, 0), numbers(12, 6, 1)
    for value in values:
        leaf = x.clone().requires_grad_()
        found = compiled(leaf, y, value)
        expected = call(leaf, y, value)
        torch.testing.assert_close(found, expected)
        gradients = [torch.autograd.grad(v, leaf)[0] for v in (found, expected)]
        torch.testing.assert_close(*gradients)
    assert counter.frame_count <= most


CALLS: dict[str, tuple[Callable[..., Tensor], tuple[float, ...]]] = {
    "margin": (lambda x, y, v: H.contrastive_loss(x, y, margin=v), (0.1, 0.2, 0.35, 0.4)),
    "margin of all": (
        lambda x, y, v: H.contrastive_loss(x, y, margin=v, negatives="all"),
        (0.1, 0.2, 0.35, 0.4),
    ),
    "temperature": (lambda x, y, v: H.info_nce_loss(x, y, temperature=v), (0.1, 0.2, 0.35, 0.4)),
    "temperature and margin": (
        lambda x, y, v: H.info_nce_loss(x, y, temperature=v, margin=v / 2, negatives=TopK(2)),
        (0.1, 0.2, 0.35, 0.4),
    ),
    "bias": (lambda x, y, v: H.sigmoid_loss(x, y, bias=v), (-3.0, -2.0, -1.5, -1.0)),
    "gamma": (lambda x, y, v: H.unified_pair_loss(x, y, gamma=v), (5.0, 9.0, 12.0, 15.0)),
    "boundary": (
        lambda x, y, v: H.margin_loss(x, LABELS, beta=v, negatives="all"),
        (0.7, 1.1, 1.3, 1.6),
    ),
    "margin of triplets": (
        lambda x, y, v: H.triplet_loss(
            x, LABELS, margin=v, positives="hardest", negatives="hardest"
        ),
        (0.1, 0.2, 0.35, 0.4),
    ),
}


@pytest.mark.parametrize("name", CALLS)
def test_a_number_that_changes(name: str) -> None:
    call, values = CALLS[name]
    compiled_alike(call, values, most=2)


ATTRIBUTES: list[tuple[Any, str, tuple[float, ...], bool]] = [
    (ContrastiveLoss(negatives="all"), "margin", (0.1, 0.2, 0.35, 0.4), False),
    (UnifiedPairLoss(), "margin", (0.1, 0.2, 0.35, 0.4), False),
    (TripletLoss(positives="hardest"), "margin", (0.1, 0.2, 0.35, 0.4), True),
    (MultiSimilarityLoss(), "base", (0.4, 0.5, 0.6, 0.7), True),
    (CircleLoss(gamma=8.0), "margin", (0.2, 0.25, 0.3, 0.35), True),
    (SigmoidLoss(), "bias", (-4.0, -3.0, -2.0, -1.0), False),
    (MarginLoss(negatives="all"), "beta", (1.0, 1.1, 1.2, 1.3), True),
]


@pytest.mark.parametrize(
    ("loss", "name", "values", "labels"), ATTRIBUTES, ids=lambda v: type(v).__name__
)
def test_an_attribute_that_changes(
    loss: Any, name: str, values: tuple[float, ...], labels: bool
) -> None:
    def call(x: Tensor, y: Tensor, value: float) -> Tensor:
        setattr(loss, name, value)
        return loss(x, LABELS if labels else y)

    compiled_alike(call, values, most=2)


DYNAMIC: dict[str, Callable[[Tensor, Tensor, float], Tensor]] = {
    "contrastive": lambda x, y, v: H.contrastive_loss(x, y, margin=v),
    "info_nce": lambda x, y, v: InfoNCELoss(0.1)(x, y),
    "sigmoid": lambda x, y, v: SigmoidLoss()(x, y),
    "triplet": lambda x, y, v: H.triplet_loss(x, LABELS, margin=v, positives="hardest"),
    "sup_con": lambda x, y, v: SupConLoss()(x, LABELS),
    "pairwise": lambda x, y, v: H.pairwise_contrastive_loss(x, LABELS, negative_margin=v),
    "top k": lambda x, y, v: H.contrastive_loss(x, y, negatives=TopK(3), backend="tiled"),
}


@pytest.mark.parametrize("name", DYNAMIC)
def test_a_number_with_dynamic_shapes(name: str) -> None:
    compiled_alike(DYNAMIC[name], (0.2, 0.3), most=2, dynamic=True)


@covering(2, kind=[ContrastiveLoss, InfoNCELoss], backend=["auto", "tiled"])
def test_shapes_that_change(kind: Any, backend: str) -> None:
    """Also with ids, whose pairs are asserted, and with further candidates."""
    counter = CompileCounterWithBackend("aot_eager")
    loss = kind(backend=backend)
    compiled = torch.compile(loss, fullgraph=True, backend=counter, dynamic=True)
    for n, m in ((8, 8), (10, 10), (14, 14), (9, 13), (11, 15), (6, 17)):
        x, y = numbers(n, 6, n), numbers(m, 6, m + 1)
        told = {"query_ids": torch.arange(n) // 2, "candidate_ids": torch.arange(m) // 2}
        torch.testing.assert_close(compiled(x, y, **told), loss(x, y, **told))
    assert counter.frame_count <= 3  # square and rectangular, and once more for the number in it
