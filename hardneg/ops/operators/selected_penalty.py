"""``selected_penalty`` as operators: the terms, their backward, and the total with its gradients."""

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
from hardneg.ops.requests import SelectedTerms, Wanted
from hardneg.ops.tiled.selected_penalty import SelectedGradients, selected_penalty
from hardneg.selection import Selection
from hardneg.similarities import working_type

__all__ = ["SelectedPenalty"]


class SelectedPenalty(Compared):
    """Arguments of ``selected_penalty``; ``chosen`` are each query's negatives where they are known."""

    chosen: Tensor | None
    seed: Tensor | None
    scale: Tensor | None
    penalty: str
    margin: float
    ceiling: list[float]
    order: str
    k: int
    skip: int
    parameters: list[float]
    fallback: str
    per_pair: bool

    @property
    def terms(self) -> SelectedTerms:
        """What is added up."""
        selection = Selection(self.order, self.k, self.skip, tuple(self.parameters), self.fallback)
        ceiling = Ceiling(*self.ceiling) if self.ceiling else None
        penalty = penalties.BY_NAME[self.penalty] if self.penalty else None
        return SelectedTerms(penalty, self.margin, selection, ceiling, self.seed, self.scale)


class Differentiated(SelectedPenalty):
    """Arguments of the total: which inputs want a gradient, too."""

    wanted_gradients: list[bool]


class Weighted(Differentiated):
    """Arguments of the backward: the weight of every query, or pair, too."""

    weights: Tensor


def sums_shapes(a: SelectedPenalty) -> tuple[Tensor, ...]:
    """One of each a query; with ``per_pair`` their number is known only afterwards."""
    length: Any = a.queries.shape[0]
    if a.per_pair:
        length = torch.library.get_ctx().new_dynamic_size()
    sums = a.queries.new_empty(length, dtype=working_type(a.queries))
    counts = torch.empty_like(sums, dtype=torch.long)
    pairs = a.queries.new_empty(a.queries.shape[0], dtype=torch.long)
    return sums, counts, torch.empty_like(counts), torch.empty_like(sums), pairs


def gradient_shapes(a: Differentiated) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of queries, candidates and scale."""
    of_queries, of_candidates, _ = a.wanted_gradients
    return (
        gradient_of(a.queries, of_queries),
        gradient_of(a.candidates, of_candidates),
        a.queries.new_empty((), dtype=working_type(a.queries)),
    )


def tensors_of(found: SelectedGradients | None) -> tuple[Tensor, Tensor, Tensor]:
    """The gradients in the operators' order."""
    assert found is not None
    return found.queries, found.candidates, found.scale


@operator("selected_penalty", SelectedPenalty, 5, sums_shapes)
def run_sums(a: SelectedPenalty) -> tuple[Tensor, ...]:
    """See ``reference_pairs.selected_penalty``."""
    return selected_penalty(a.comparison, a.terms, a.chosen, a.per_pair)[0]


@operator("selected_penalty_backward", Weighted, 3, gradient_shapes)
def run_backward(a: Weighted) -> tuple[Tensor, ...]:
    """The blocks once more, now with the weights known."""
    wanted = Wanted(*a.wanted_gradients)
    told = a.comparison, a.terms, a.chosen, a.per_pair
    return tensors_of(selected_penalty(*told, a.weights, wanted)[1])


@operator(
    "selected_penalty_total",
    Differentiated,
    8,
    lambda a: (
        a.queries.new_empty((), dtype=working_type(a.queries)),
        *sums_shapes(a)[1:],
        *gradient_shapes(a),
    ),
)
def run_total(a: Differentiated) -> tuple[Tensor, ...]:
    """The sum over all queries, and in the same pass its gradients."""
    ones = a.queries.new_ones(a.queries.shape[0], dtype=working_type(a.queries))
    wanted = Wanted(*a.wanted_gradients)
    found, gradients = selected_penalty(a.comparison, a.terms, a.chosen, False, ones, wanted)
    return found.sums.sum(), *found[1:], *tensors_of(gradients)


def gradients_of(a: SelectedPenalty, found: tuple[Tensor, ...], wanted: list[bool]) -> Any:
    """The operators' gradients by argument."""
    dq, dc, scale = found
    if a.scale is None or not wanted[2]:
        return a.returned(dq, dc)
    scale = scale.to(a.scale.dtype).reshape(a.scale.shape)
    return a.returned(dq, dc, scale=scale)


def backward(ctx: Any, upstream: Tensor | None, *_: None) -> Any:
    """Weights are the upstream gradients of the terms."""
    a = SelectedPenalty.restore(ctx)[0]
    if upstream is None:
        return a.gradients()
    wanted = SelectedPenalty.wanted(ctx)
    found = torch.ops.hardneg.selected_penalty_backward(*a.values(), wanted, upstream.contiguous())
    return gradients_of(a, found, wanted)


def backward_of_total(ctx: Any, upstream: Tensor | None, *_: None) -> Any:
    """Scale what the forward pass computed."""
    a, outputs = Differentiated.restore(ctx)
    if upstream is None:
        return a.gradients()
    found = tuple(torch.ops.hardneg.scaled(upstream, x) for x in outputs[5:])
    return gradients_of(a, found, a.wanted_gradients)


differentiable("selected_penalty", SelectedPenalty, backward, by="selected_penalty_backward")
differentiable("selected_penalty_total", Differentiated, backward_of_total)
