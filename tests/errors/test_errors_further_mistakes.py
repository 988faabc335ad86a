"""Further mistakes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from error_calls import EYE, IDS, Bilinear, X, Y, says

import hardneg
from hardneg import (
    All,
    Hardest,
    SelectiveHardest,
    SemiHard,
    Steps,
    Tiled,
    TopK,
    Warmup,
)
from hardneg.functional import (
    contrastive_loss,
    info_nce_loss,
    sigmoid_loss,
    triplet_loss,
    unified_pair_loss,
)

BACKENDS = ("dense", "tiled")


def wrong_shape(*parts: str) -> tuple[str, ...]:
    return "similarity", *parts


MISTAKES = [
    ("no backend", lambda: contrastive_loss(X, Y, backend=None), ("backend", "None")),
    ("a number as backend", lambda: hardneg.ContrastiveLoss(backend=3), ("backend", "3")),
    (
        "a class as backend",
        lambda: contrastive_loss(X, Y, backend=Tiled),
        ("backend", "Tiled", "Tiled()"),
    ),
    ("an empty tile", lambda: Tiled((0, 3)), ("tile", "(0, 3)")),
    ("half a tile", lambda: Tiled(3), ("tile", "3")),
    ("a number as ceiling", lambda: TopK(2, ceiling=0.5), ("ceiling", "0.5", "Ceiling")),
    ("a percentage as a share", lambda: hardneg.PositiveAware(95), ("share is 95", "0.95")),
    ("a matrix as temperature", lambda: hardneg.InfoNCELoss(X), ("temperature", "(4, 3)")),
    ("semi-hard without a bound", lambda: SemiHard(ceiling=None), ("ceiling", "None")),
    (
        "a trainable similarity in given tiles",
        lambda: contrastive_loss(X, Y, similarity=Bilinear(), backend=Tiled((3, 3))),
        ("trainable parameters",),
    ),
    (
        "sigmoid loss: several positives without ids",
        lambda: sigmoid_loss(X, Y, positives="all"),
        ("positives", "query_ids"),
    ),
    ("stages without steps", lambda: Steps(All(), Hardest()), ("stages",)),
    ("numbers in place of strategies", lambda: Warmup(1, 2, 3), ("before", "1")),
    ("a negative step", lambda: Warmup(All(), Hardest(), 3)(-1), ("step", "-1")),
    (
        "cosine for the margin loss's module",
        lambda: hardneg.MarginLoss(similarity="cosine"),
        ("similarity", "needs a distance"),
    ),
    (
        "labels of the reference beside a mask",
        lambda: triplet_loss(X, None, Y, IDS, positive_mask=EYE),
        ("reference_labels", "positive"),
    ),
    (
        "a mask under its own name",
        lambda: triplet_loss(X, positive_mask=EYE[:, :3]),
        ("positive_mask",),
    ),
    (
        "the loss that was called",
        lambda: unified_pair_loss(X, Y, negatives=SelectiveHardest()),
        ("UnifiedPairLoss",),
    ),
]


for how in BACKENDS:
    MISTAKES += [
        (
            f"a similarity of one score a row, {how}",
            lambda h=how: contrastive_loss(X, Y, similarity=lambda q, c: q.sum(1), backend=h),
            wrong_shape("(4,)"),
        ),
        (
            f"a similarity of one column, {how}",
            lambda h=how: contrastive_loss(
                X, Y, similarity=lambda q, c: (q @ c.T)[:, :1], backend=h
            ),
            wrong_shape("1)"),
        ),
        (
            f"a similarity the wrong way round, {how}",
            lambda h=how: contrastive_loss(
                X[:2], Y[:3], similarity=lambda q, c: c @ q.T, backend=h, negatives="all"
            ),
            wrong_shape("(3, 2)"),
        ),
        (
            f"a similarity of integers, {how}",
            lambda h=how: contrastive_loss(
                X, Y, similarity=lambda q, c: (q @ c.T).long(), backend=h
            ),
            wrong_shape("int64"),
        ),
        (
            f"a similarity that returns nothing, {how}",
            lambda h=how: contrastive_loss(X, Y, similarity=lambda q, c: None, backend=h),
            wrong_shape("NoneType"),
        ),
    ]


@pytest.mark.parametrize(("call", "parts"), [n[1:] for n in MISTAKES], ids=[n[0] for n in MISTAKES])
def test_further_mistakes(call: Callable[[], Any], parts: tuple[str, ...]) -> None:
    with pytest.raises((ValueError, TypeError)) as caught:
        call()
    says(str(caught.value), *parts)


@pytest.mark.parametrize("value", [0.0, -0.1, float("nan")])
def test_a_temperature_in_a_tensor_that_is_not_above_0_gives_nan(value: float) -> None:
    assert info_nce_loss(X, Y, temperature=torch.tensor(value)).isnan()
