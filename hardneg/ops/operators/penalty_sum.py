"""``penalty_sum`` as operators: the sums, their backward by recomputed tiles, and the total with its gradients."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from hardneg.ops.comparison import Comparison
from hardneg.ops.operators.registration import (
    Gradients,
    Operator,
    empty_gradient,
    scale_gradient,
)
from hardneg.ops.requests import EVERYTHING, UNWEIGHTED, Engine, PenaltyTerms, Wanted, Weights
from hardneg.ops.scores import PenaltyGradients, Sums
from hardneg.ops.tiled.penalty_sum import penalty_pass
from hardneg.similarities import score_dtype

__all__ = ["PENALTY_SUM", "PENALTY_TOTAL"]


def one_pass(
    comparison: Comparison,
    terms: PenaltyTerms,
    engine: Engine,
    weights: Weights = UNWEIGHTED,
    wanted: Wanted = EVERYTHING,
) -> tuple[Sums, PenaltyGradients | None]:
    """One pass over the tiles."""
    given = comparison, terms, weights
    if engine.fused:
        from hardneg.ops.triton import penalty_sum as kernels

        return kernels.penalty_pass(*given, wanted, engine.one_set)
    return penalty_pass(*given, engine.tile_size, wanted)


def run(comparison: Comparison, terms: PenaltyTerms, engine: Engine) -> tuple[Tensor, ...]:
    """See ``DenseScores.penalty_sum``."""
    return one_pass(comparison, terms, engine)[0]


def shapes(comparison: Comparison, terms: PenaltyTerms, engine: Engine) -> tuple[Tensor, ...]:
    """Sums and counts of each side that has thresholds."""
    sides, like = (terms.row_thresholds, terms.column_thresholds), comparison.queries
    lengths = [0 if thresholds is None else thresholds.shape[0] for thresholds in sides]
    sums = [like.new_empty(n, dtype=score_dtype(like)) for n in lengths]
    counts = [torch.empty_like(x, dtype=torch.long) for x in sums]
    return *sums, *counts, *(torch.empty_like(x) for x in sums)


def run_backward(
    comparison: Comparison, terms: PenaltyTerms, engine: Engine, weights: Weights, wanted: Wanted
) -> tuple[Tensor, ...]:
    """Gradients from the tiles once more, now that the weight of every anchor is known."""
    terms = replace(terms, maxima=False)
    found = one_pass(comparison, terms, engine, weights, wanted)[1]
    assert found is not None
    return found


def gradient_shapes(
    comparison: Comparison, terms: PenaltyTerms, engine: Engine, weights: Weights, wanted: Wanted
) -> tuple[Tensor, ...]:
    """Gradients of queries, candidates, scale and both thresholds."""
    like = comparison.queries
    vector = like.new_empty((), dtype=score_dtype(like))
    sides = weights.rows, weights.columns
    return (
        empty_gradient(like, wanted.queries),
        empty_gradient(comparison.candidates, wanted.candidates),
        vector,
        *(vector.new_empty(0 if side is None else side.shape[0]) for side in sides),
    )


def run_total(
    comparison: Comparison, terms: PenaltyTerms, engine: Engine, weights: Weights, wanted: Wanted
) -> tuple[Tensor, ...]:
    """The weighted total, the counts, and in the same pass the total's gradients."""
    sums, found = one_pass(comparison, terms, engine, weights, wanted)
    assert found is not None
    total = torch.zeros_like(found.scale)
    for side, of_side in ((weights.rows, sums.rows), (weights.columns, sums.columns)):
        if side is not None:
            total += (side * of_side).sum()  # adds pairwise, which a dot product does not
    return total, *sums[2:], *found


def total_shapes(
    comparison: Comparison, terms: PenaltyTerms, engine: Engine, weights: Weights, wanted: Wanted
) -> tuple[Tensor, ...]:
    """The total, counts and maxima, and the gradients."""
    like = comparison.queries
    total = like.new_empty((), dtype=score_dtype(like))
    gradients = gradient_shapes(comparison, terms, engine, weights, wanted)
    return total, *shapes(comparison, terms, engine)[2:], *gradients


PENALTY_SUM = Operator("penalty_sum", (Comparison, PenaltyTerms, Engine), 6, run, shapes)
WEIGHTED = (Comparison, PenaltyTerms, Engine, Weights, Wanted)
BACKWARD = Operator("penalty_sum_backward", WEIGHTED, 5, run_backward, gradient_shapes)
PENALTY_TOTAL = Operator("penalty_total", WEIGHTED, 10, run_total, total_shapes)


def by_name(terms: PenaltyTerms, found: tuple[Tensor, ...]) -> Gradients:
    """Gradients by the names of the tensors."""
    dq, dc, scale, rows, columns = found
    if terms.scale is not None:
        scale = scale.to(terms.scale.dtype).reshape(terms.scale.shape)
    return {
        "queries": dq,
        "candidates": None if dc.dim() == 1 else dc,
        "scale": scale,
        "row_thresholds": of_side(terms.row_thresholds, rows),
        "column_thresholds": of_side(terms.column_thresholds, columns),
    }


def of_side(thresholds: Tensor | None, gradient: Tensor) -> Tensor | None:
    """The gradient of a side's thresholds; None where there are none, or where it had no weights."""
    given = thresholds is not None and gradient.shape == thresholds.shape
    return gradient if given else None


def backward(
    requests: tuple[Comparison, PenaltyTerms, Engine],
    results: tuple[Tensor, ...],
    upstream: tuple[Tensor | None, Tensor | None],
    needed: set[str],
) -> Gradients:
    """Weights are the upstream gradients of the sums; a side without one is not weighted."""
    _, terms, engine = requests
    thresholds = terms.row_thresholds, terms.column_thresholds
    given = [
        None if limits is None or gradient is None else gradient.contiguous()
        for limits, gradient in zip(thresholds, upstream, strict=True)
    ]
    wanted = engine.wanted("queries" in needed, "candidates" in needed, "scale" in needed)
    return by_name(terms, BACKWARD(*requests, Weights(*given), wanted))


def backward_of_total(
    requests: tuple[Comparison, PenaltyTerms, Engine, Weights, Wanted],
    results: tuple[Tensor, ...],
    upstream: tuple[Tensor],
    needed: set[str],
) -> Gradients:
    """Scale what the forward pass computed."""
    return by_name(requests[1], tuple(scale_gradient(x, upstream[0]) for x in results[5:]))


PENALTY_SUM.differentiate(backward, 2, by=BACKWARD)
PENALTY_TOTAL.differentiate(backward_of_total, 1)
