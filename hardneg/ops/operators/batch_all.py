"""``batch_all`` as operators: sums, their backward, and the total with its gradients."""

from __future__ import annotations

import torch
from torch import Tensor

from hardneg.ops.comparison import Comparison
from hardneg.ops.operators.registration import (
    Gradients,
    Operator,
    empty_gradient,
    scale_gradient,
)
from hardneg.ops.requests import EVERYTHING, BatchAllTerms, Engine, Wanted, Weights
from hardneg.ops.tiled.batch_all import PairTerms, batch_all
from hardneg.similarities import score_dtype

__all__ = ["BATCH_ALL", "BATCH_ALL_TOTAL"]


def one_pass(
    comparison: Comparison,
    terms: BatchAllTerms,
    engine: Engine,
    weights: Tensor | None = None,
    wanted: Wanted = EVERYTHING,
) -> tuple[PairTerms, tuple[Tensor, Tensor] | None]:
    """One pass over blocks of full rows."""
    bounds = terms.ceiling, terms.score_range
    choices = terms.penalty, terms.margin, bounds, terms.per_pair
    return batch_all(comparison, *choices, weights, engine.tile_size, wanted)


def run(comparison: Comparison, terms: BatchAllTerms, engine: Engine) -> tuple[Tensor, ...]:
    """See ``DenseScores.batch_all``."""
    return one_pass(comparison, terms, engine)[0].all()


def shapes(comparison: Comparison, terms: BatchAllTerms, engine: Engine) -> tuple[Tensor, ...]:
    """One sum and count an anchor; with ``per_pair`` their number is known only afterwards."""
    like = comparison.queries
    length = torch.library.get_ctx().new_dynamic_size() if terms.per_pair else like.shape[0]
    sums = like.new_empty(length, dtype=score_dtype(like))
    return sums, torch.empty_like(sums, dtype=torch.long), *anchor_shapes(comparison)


def anchor_shapes(comparison: Comparison) -> tuple[Tensor, Tensor, Tensor]:
    """Of each anchor: its highest negative, sum of positive scores, pairs with a negative."""
    like = comparison.queries
    maxima = like.new_empty(like.shape[0], dtype=score_dtype(like))
    return maxima, torch.empty_like(maxima), torch.empty_like(maxima, dtype=torch.long)


def run_backward(
    comparison: Comparison, terms: BatchAllTerms, engine: Engine, weights: Weights, wanted: Wanted
) -> tuple[Tensor, Tensor]:
    """The blocks once more, now that the weights are known."""
    _, found = one_pass(comparison, terms, engine, weights.rows, wanted)
    assert found is not None
    return found


def gradient_shapes(
    comparison: Comparison, terms: BatchAllTerms, engine: Engine, weights: Weights, wanted: Wanted
) -> tuple[Tensor, Tensor]:
    """Gradients of queries and candidates, empty for a frozen side."""
    return (
        empty_gradient(comparison.queries, wanted.queries),
        empty_gradient(comparison.candidates, wanted.candidates),
    )


def run_total(
    comparison: Comparison, terms: BatchAllTerms, engine: Engine, wanted: Wanted
) -> tuple[Tensor, ...]:
    """The sum over all anchors, the counts, and in the same pass the gradients."""
    queries = comparison.queries
    kind = score_dtype(queries)
    ones = queries.new_ones(queries.shape[0], dtype=kind)
    found, gradients = one_pass(comparison, terms, engine, ones, wanted)
    assert gradients is not None
    return found.sums.sum(), *found.all()[1:], *gradients


def total_shapes(
    comparison: Comparison, terms: BatchAllTerms, engine: Engine, wanted: Wanted
) -> tuple[Tensor, ...]:
    """The total, the counts, what is known of each anchor, and the gradients."""
    like = comparison.queries
    total = like.new_empty((), dtype=score_dtype(like))
    counts = like.new_empty(like.shape[0], dtype=torch.long)
    gradients = gradient_shapes(comparison, terms, engine, Weights(), wanted)
    return total, counts, *anchor_shapes(comparison), *gradients


REQUESTS = (Comparison, BatchAllTerms, Engine)
BATCH_ALL = Operator("batch_all", REQUESTS, 5, run, shapes)
BACKWARD = Operator(
    "batch_all_backward", (*REQUESTS, Weights, Wanted), 2, run_backward, gradient_shapes
)
BATCH_ALL_TOTAL = Operator("batch_all_total", (*REQUESTS, Wanted), 7, run_total, total_shapes)


def backward(
    requests: tuple[Comparison, BatchAllTerms, Engine],
    results: tuple[Tensor, ...],
    upstream: tuple[Tensor],
    needed: set[str],
) -> Gradients:
    """Weights are the upstream gradients of the sums."""
    wanted = Wanted("queries" in needed, "candidates" in needed, False)
    dq, dc = BACKWARD(*requests, Weights(upstream[0].contiguous()), wanted)
    return {"queries": dq, "candidates": dc}


def backward_of_total(
    requests: tuple[Comparison, BatchAllTerms, Engine, Wanted],
    results: tuple[Tensor, ...],
    upstream: tuple[Tensor],
    needed: set[str],
) -> Gradients:
    """Scale what the forward pass computed."""
    dq, dc = (scale_gradient(x, upstream[0]) for x in results[5:])
    return {"queries": dq, "candidates": dc}


BATCH_ALL.differentiate(backward, 1, by=BACKWARD)
BATCH_ALL_TOTAL.differentiate(backward_of_total, 1)
