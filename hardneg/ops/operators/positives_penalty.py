"""``positives_penalty`` (batch-all) as operators: sums, their backward, and the total with its gradients."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from hardneg import penalties
from hardneg.ceilings import Ceiling
from hardneg.ops.operators.registration import (
    Compared,
    differentiable,
    gradient_of,
    operator,
)
from hardneg.ops.requests import EVERYTHING, Wanted
from hardneg.ops.tiled.positives_penalty import PairTerms, positives_penalty
from hardneg.similarities import working_type

__all__ = ["PositivesPenalty"]


class PositivesPenalty(Compared):
    """Arguments of ``positives_penalty``."""

    penalty: str
    margin: float
    ceiling: list[float]
    per_pair: bool


class Differentiated(PositivesPenalty):
    """Arguments of the total: which sides want a gradient, too."""

    wanted_gradients: list[bool]


class Weighted(Differentiated):
    """Arguments of its backward: the weight of every anchor, or pair, too."""

    weights: Tensor


def run(
    a: PositivesPenalty, weights: Tensor | None, wanted: Wanted = EVERYTHING
) -> tuple[PairTerms, tuple[Tensor, Tensor] | None]:
    """One pass over blocks of full rows."""
    return positives_penalty(
        a.comparison,
        penalties.BY_NAME[a.penalty],
        a.margin,
        Ceiling(*a.ceiling) if a.ceiling else None,
        a.per_pair,
        weights,
        a.tile_size,
        wanted,
    )


def gradient_shapes(a: Differentiated) -> tuple[Tensor, Tensor]:
    """Gradients of queries and candidates."""
    of_queries, of_candidates, _ = a.wanted_gradients
    return gradient_of(a.queries, of_queries), gradient_of(a.candidates, of_candidates)


def sums_shapes(a: PositivesPenalty) -> tuple[Tensor, ...]:
    """One sum and count an anchor; with ``per_pair`` their number is known only afterwards."""
    length: Any = a.queries.shape[0]
    if a.per_pair:
        length = torch.library.get_ctx().new_dynamic_size()
    sums = a.queries.new_empty(length, dtype=working_type(a.queries))
    counts = torch.empty_like(sums, dtype=torch.long)
    return sums, counts, *anchor_shapes(a)


def anchor_shapes(a: PositivesPenalty) -> tuple[Tensor, Tensor, Tensor]:
    """What is known of each anchor: highest negative, sum of positive scores, pairs with a negative."""
    maxima = a.queries.new_empty(a.queries.shape[0], dtype=working_type(a.queries))
    return maxima, torch.empty_like(maxima), torch.empty_like(maxima, dtype=torch.long)


@operator("positives_penalty", PositivesPenalty, 5, sums_shapes)
def run_sums(a: PositivesPenalty) -> tuple[Tensor, ...]:
    """See ``reference.positives_penalty``."""
    terms, _ = run(a, None)
    return terms.all()


@operator("positives_penalty_backward", Weighted, 2, gradient_shapes)
def run_backward(a: Weighted) -> tuple[Tensor, Tensor]:
    """The blocks once more, now with the weights known."""
    _, gradients = run(a, a.weights, Wanted(*a.wanted_gradients))
    assert gradients is not None
    return gradients


@operator(
    "positives_penalty_total",
    Differentiated,
    7,
    lambda a: (
        a.queries.new_empty((), dtype=working_type(a.queries)),
        a.queries.new_empty(a.queries.shape[0], dtype=torch.long),
        *anchor_shapes(a),
        *gradient_shapes(a),
    ),
)
def run_total(a: Differentiated) -> tuple[Tensor, ...]:
    """The sum over all anchors, the counts, and in the same pass the gradients."""
    ones = a.queries.new_ones(a.queries.shape[0], dtype=working_type(a.queries))
    terms, gradients = run(a, ones, Wanted(*a.wanted_gradients))
    assert gradients is not None
    return terms.sums.sum(), *terms.all()[1:], *gradients


def backward(ctx: Any, upstream: Tensor | None, *_: None) -> Any:
    """Weights are the upstream gradients of the sums."""
    if upstream is None:
        return PositivesPenalty.gradients()
    a = PositivesPenalty.restore(ctx)[0]
    wanted = PositivesPenalty.wanted(ctx)
    dq, dc = torch.ops.hardneg.positives_penalty_backward(
        *a.values(), wanted, upstream.contiguous()
    )
    return a.returned(dq, dc)


def backward_of_total(ctx: Any, upstream: Tensor | None, *_: None) -> Any:
    """Scale what the forward pass computed."""
    if upstream is None:
        return Differentiated.gradients()
    a, outputs = Differentiated.restore(ctx)
    dq, dc = (torch.ops.hardneg.scaled(upstream, x) for x in outputs[5:])
    return a.returned(dq, dc)


differentiable("positives_penalty", PositivesPenalty, backward, by="positives_penalty_backward")
differentiable("positives_penalty_total", Differentiated, backward_of_total)
