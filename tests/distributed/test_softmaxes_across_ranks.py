"""Forms of the softmax, and prefixes of embeddings, across ranks: the loss is that of one process."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from process_groups import ProcessGroups
from test_own_negatives_across_ranks import NUMBERS, batch
from torch import Tensor

from hardneg import (
    AcrossRanks,
    Debiased,
    Decoupled,
    HardnessWeighted,
    InfoNCELoss,
    LabelSmoothing,
    Learned,
    Matryoshka,
    TopK,
)

FORMS = (
    Decoupled(),
    LabelSmoothing(0.2),
    Debiased(0.1),
    HardnessWeighted(2.0),
    HardnessWeighted(2.0, "own"),
    HardnessWeighted(2.0, "batch"),
)


def called(loss: Any, parameters: Any, embeddings: list[Tensor], **named: Tensor) -> list[Tensor]:
    """Value, gradients of the embeddings, and of the temperature."""
    given = [x.clone().requires_grad_() for x in embeddings]
    value = loss(*given[:2], own_negatives=given[2], **named)
    value.backward()
    # own negatives of no query are part of nothing
    found = [torch.zeros_like(x) if x.grad is None else x.grad for x in (*given, *parameters)]
    for parameter in parameters:
        parameter.grad = None
    return [value.detach(), *found]


def every_form(rank: int, size: int, ring: bool) -> None:
    numbers = NUMBERS[size]
    embeddings, named = batch(sum(numbers))
    start = sum(numbers[:rank])
    mine = slice(start, start + numbers[rank])
    losses = [InfoNCELoss(Learned(0.3), softmax=form).double() for form in FORMS]
    losses += [InfoNCELoss(Learned(0.3), negatives=TopK(3), softmax=f).double() for f in FORMS[:4]]
    for loss in losses:
        for widths in ((), (8, 3)):
            whole: Any = Matryoshka(loss, widths) if widths else loss
            shared: Any = AcrossRanks(loss, ring=ring)
            shared = Matryoshka(shared, widths) if widths else shared
            parameters = list(loss.parameters())
            expected = called(whole, parameters, embeddings, **named)
            here = {name: x[mine] for name, x in named.items()}
            found = called(shared, parameters, [x[mine] for x in embeddings], **here)
            torch.testing.assert_close(found[0], expected[0], rtol=1e-9, atol=1e-10)
            for x, y in zip(found[1:4], expected[1:4], strict=True):
                torch.testing.assert_close(x / size, y[mine], rtol=1e-9, atol=1e-10)
            torch.testing.assert_close(found[4], expected[4], rtol=1e-9, atol=1e-10)


@pytest.mark.parametrize("ring", [False, True], ids=["gathered", "ring"])
@pytest.mark.parametrize("size", list(NUMBERS))
def test_every_form_across_ranks(groups: ProcessGroups, size: int, ring: bool) -> None:
    groups(size)(every_form, ring)
