"""Numbers."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from error_calls import IDS, X, Y, raised, says

import hardneg
from hardneg import (
    All,
    Ceiling,
    DistanceWeighted,
    Hardest,
    RandomK,
    RankWindow,
    SelectiveHardest,
    Steps,
    TopK,
    Warmup,
)
from hardneg.functional import (
    circle_loss,
    contrastive_loss,
    info_nce_loss,
    margin_loss,
    multi_similarity_loss,
    nt_xent_loss,
    pairwise_contrastive_loss,
    polynomial_loss,
    sigmoid_loss,
    sup_con_loss,
    triplet_loss,
    unified_pair_loss,
)

BAD_NUMBERS = [
    (-1.0, ValueError, "-1.0"),
    (math.nan, ValueError, "expected a finite number"),
    (math.inf, ValueError, "expected a finite number"),
    ("a", TypeError, "expected a number"),
    (None, TypeError, "expected a number"),
    (True, TypeError, "expected a number"),
]


MARGINS = [
    (contrastive_loss, hardneg.ContrastiveLoss, (X, Y)),
    (polynomial_loss, hardneg.PolynomialLoss, (X, Y)),
    (unified_pair_loss, hardneg.UnifiedPairLoss, (X, Y)),
    (triplet_loss, hardneg.TripletLoss, (X, IDS)),
    (margin_loss, hardneg.MarginLoss, (X, IDS)),
    (circle_loss, hardneg.CircleLoss, (X, IDS)),
]


TEMPERATURES = [
    (info_nce_loss, hardneg.InfoNCELoss, (X, Y)),
    (sigmoid_loss, hardneg.SigmoidLoss, (X, Y)),
    (nt_xent_loss, hardneg.NTXentLoss, (X, IDS)),
    (sup_con_loss, hardneg.SupConLoss, (X, IDS)),
]


@pytest.mark.parametrize(("bad", "error", "part"), BAD_NUMBERS)
@pytest.mark.parametrize(("function", "module", "given"), MARGINS)
def test_bad_margins(
    function: Any, module: Any, given: Any, bad: Any, error: type[Exception], part: str
) -> None:
    says(raised(error, lambda: function(*given, margin=bad)), "margin is", part)
    says(raised(error, lambda: module(margin=bad)), "margin is", part)


@pytest.mark.parametrize(("bad", "error", "part"), [*BAD_NUMBERS, (0, ValueError, "above 0")])
@pytest.mark.parametrize(("function", "module", "given"), TEMPERATURES)
def test_bad_temperatures(
    function: Any, module: Any, given: Any, bad: Any, error: type[Exception], part: str
) -> None:
    says(raised(error, lambda: function(*given, temperature=bad)), "temperature is", part)
    says(raised(error, lambda: module(temperature=bad)), "temperature is", part)


def test_a_temperature_for_every_row() -> None:
    message = raised(ValueError, lambda: info_nce_loss(X, Y, temperature=torch.ones(4)))
    says(message, "temperature", "(4,)", "a number or a scalar tensor")


def test_vectors_of_another_length() -> None:
    message = raised(ValueError, lambda: sigmoid_loss(X, Y, bias=torch.ones(3)))
    says(message, "bias", "(3,)")
    message = raised(ValueError, lambda: margin_loss(X, IDS, beta=torch.ones(3)))
    says(message, "beta", "(3,)")


OTHER_NUMBERS = [
    (lambda v: circle_loss(X, IDS, gamma=v), "gamma", 0),
    (lambda v: hardneg.CircleLoss(gamma=v), "gamma", 0),
    (lambda v: unified_pair_loss(X, Y, gamma=v), "gamma", 0),
    (lambda v: hardneg.UnifiedPairLoss(gamma=v), "gamma", -1),
    (lambda v: multi_similarity_loss(X, IDS, alpha=v), "alpha", 0),
    (lambda v: multi_similarity_loss(X, IDS, beta=v), "beta", 0),
    (lambda v: multi_similarity_loss(X, IDS, base=v), "base", math.nan),
    (lambda v: multi_similarity_loss(X, IDS, epsilon=v), "epsilon", math.nan),
    (lambda v: margin_loss(X, IDS, beta=v), "beta", math.nan),
    (lambda v: hardneg.MarginLoss(beta=v), "beta", math.inf),
    (lambda v: sigmoid_loss(X, Y, bias=v), "bias", math.nan),
    (lambda v: hardneg.SigmoidLoss(bias=v), "bias", math.nan),
    (lambda v: info_nce_loss(X, Y, margin=v), "margin", math.nan),
    (lambda v: pairwise_contrastive_loss(X, IDS, positive_margin=v), "positive_margin", math.nan),
    (lambda v: pairwise_contrastive_loss(X, IDS, negative_margin=v), "negative_margin", math.inf),
    (lambda v: hardneg.Learned(0.07, max_scale=v), "max_scale", 0),
    (lambda v: SelectiveHardest(v), "threshold", -1),
    (lambda v: Ceiling(v), "relative", math.nan),
    (lambda v: Ceiling(offset=v), "offset", math.inf),
    (lambda v: DistanceWeighted(cutoff=v), "cutoff", 0),
    (lambda v: DistanceWeighted(cutoff=v), "cutoff", 3),
    (lambda v: DistanceWeighted(nonzero_loss_cutoff=v), "nonzero_loss_cutoff", 0),
]


@pytest.mark.parametrize(("call", "name", "bad"), OTHER_NUMBERS)
def test_other_numbers(call: Any, name: str, bad: float) -> None:
    says(raised(ValueError, lambda: call(bad)), f"{name} is {bad}", "expected")
    says(raised(TypeError, lambda: call("much")), f"{name} is 'much'", "expected a number")


COUNTS = [
    (TopK, "k", 0, "at least 1"),
    (RandomK, "k", -3, "at least 1"),
    (lambda k: DistanceWeighted(k=k), "k", 0, "at least 1"),
    (lambda s: RankWindow(s, 3), "start", -1, "at least 0"),
    (lambda s: RankWindow(2, s), "stop", 2, "at least 3"),
    (lambda s: Warmup(All(), Hardest(), s), "steps", -1, "at least 0"),
]


@pytest.mark.parametrize(("call", "name", "bad", "bound"), COUNTS)
def test_counts(call: Any, name: str, bad: int, bound: str) -> None:
    says(raised(ValueError, lambda: call(bad)), f"{name} is {bad}", bound)
    for other in (1.5, "2", True):
        says(raised(TypeError, lambda v=other: call(v)), f"{name} is {other!r}", "whole number")


@pytest.mark.parametrize("coefficients", [(), [1.0], 1.0])
@pytest.mark.parametrize("name", ["positive", "negative"])
def test_coefficients(name: str, coefficients: Any) -> None:
    message = raised(TypeError, lambda: polynomial_loss(X, Y, **{name: coefficients}))
    says(message, f"{name} is {coefficients!r}", "tuple of numbers")


def test_stages() -> None:
    for stages in ((), ((1, All()),), ((0, All()), (0, Hardest())), ((0, All()), (-1, All()))):
        message = raised(ValueError, lambda s=stages: Steps(*s))
        says(message, "stages", str([start for start, _ in stages]), "rising steps from 0")
