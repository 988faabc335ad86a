"""``selected_penalty`` as operators: the terms, their backward, and the total with its gradients."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from hardneg.ops.comparison import Comparison
from hardneg.ops.operators.registration import Gradients, Operator, empty_gradient, scale_gradient
from hardneg.ops.requests import SelectedTerms, Wanted, Weights
from hardneg.ops.tiled.selected_penalty import SelectedGradients, selected_penalty
from hardneg.similarities import score_dtype

if TYPE_CHECKING:
    from jaxtyping import Int

__all__ = ["SELECTED_PENALTY", "SELECTED_PENALTY_TOTAL", "Chosen"]


@dataclass(frozen=True, eq=False)
class Chosen:
    """The negatives of every query, where they were selected already."""

    rows: Int[Tensor, "n k"] | None = None


def run(comparison: Comparison, terms: SelectedTerms, chosen: Chosen) -> tuple[Tensor, ...]:
    """See ``DenseScores.selected_penalty``."""
    return selected_penalty(comparison, terms, chosen.rows)[0]


def shapes(comparison: Comparison, terms: SelectedTerms, chosen: Chosen) -> tuple[Tensor, ...]:
    """One of each a query; with ``per_pair`` their number is known only afterwards."""
    like = comparison.queries
    length = torch.library.get_ctx().new_dynamic_size() if terms.per_pair else like.shape[0]
    sums = like.new_empty(length, dtype=score_dtype(like))
    counts = torch.empty_like(sums, dtype=torch.long)
    pairs = like.new_empty(like.shape[0], dtype=torch.long)
    return sums, counts, torch.empty_like(counts), torch.empty_like(sums), pairs


def tensors_of(found: SelectedGradients | None) -> tuple[Tensor, Tensor, Tensor]:
    """The gradients in the operators' order."""
    assert found is not None
    return found.queries, found.candidates, found.scale


def run_backward(
    comparison: Comparison, terms: SelectedTerms, chosen: Chosen, weights: Weights, wanted: Wanted
) -> tuple[Tensor, ...]:
    """The blocks once more, now that the weights are known."""
    return tensors_of(selected_penalty(comparison, terms, chosen.rows, weights.rows, wanted)[1])


def gradient_shapes(
    comparison: Comparison, terms: SelectedTerms, chosen: Chosen, weights: Weights, wanted: Wanted
) -> tuple[Tensor, ...]:
    """Gradients of queries, candidates and scale."""
    like = comparison.queries
    return (
        empty_gradient(like, wanted.queries),
        empty_gradient(comparison.candidates, wanted.candidates),
        like.new_empty((), dtype=score_dtype(like)),
    )


def run_total(
    comparison: Comparison, terms: SelectedTerms, chosen: Chosen, wanted: Wanted
) -> tuple[Tensor, ...]:
    """The sum over all queries, and in the same pass its gradients."""
    queries = comparison.queries
    ones = queries.new_ones(queries.shape[0], dtype=score_dtype(queries))
    found, gradients = selected_penalty(comparison, terms, chosen.rows, ones, wanted)
    return found.sums.sum(), *found[1:], *tensors_of(gradients)


def total_shapes(
    comparison: Comparison, terms: SelectedTerms, chosen: Chosen, wanted: Wanted
) -> tuple[Tensor, ...]:
    """The total, what is known of each query, and the gradients."""
    like = comparison.queries
    total = like.new_empty((), dtype=score_dtype(like))
    gradients = gradient_shapes(comparison, terms, chosen, Weights(), wanted)
    return total, *shapes(comparison, terms, chosen)[1:], *gradients


REQUESTS = (Comparison, SelectedTerms, Chosen)
SELECTED_PENALTY = Operator("selected_penalty", REQUESTS, 5, run, shapes)
BACKWARD = Operator(
    "selected_penalty_backward", (*REQUESTS, Weights, Wanted), 3, run_backward, gradient_shapes
)
SELECTED_PENALTY_TOTAL = Operator(
    "selected_penalty_total", (*REQUESTS, Wanted), 8, run_total, total_shapes
)


def by_name(terms: SelectedTerms, found: tuple[Tensor, ...]) -> Gradients:
    """Gradients by the names of the tensors."""
    dq, dc, scale = found
    if terms.scale is not None:
        scale = scale.to(terms.scale.dtype).reshape(terms.scale.shape)
    return {"queries": dq, "candidates": dc, "scale": scale}


def backward(
    requests: tuple[Comparison, SelectedTerms, Chosen],
    results: tuple[Tensor, ...],
    upstream: tuple[Tensor],
    needed: set[str],
) -> Gradients:
    """Weights are the upstream gradients of the terms."""
    wanted = Wanted("queries" in needed, "candidates" in needed, "scale" in needed)
    found = BACKWARD(*requests, Weights(upstream[0].contiguous()), wanted)
    return by_name(requests[1], found)


def backward_of_total(
    requests: tuple[Comparison, SelectedTerms, Chosen, Wanted],
    results: tuple[Tensor, ...],
    upstream: tuple[Tensor],
    needed: set[str],
) -> Gradients:
    """Scale what the forward pass computed."""
    return by_name(requests[1], tuple(scale_gradient(x, upstream[0]) for x in results[5:]))


SELECTED_PENALTY.differentiate(backward, 1, by=BACKWARD)
SELECTED_PENALTY_TOTAL.differentiate(backward_of_total, 1)
