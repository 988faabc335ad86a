"""``logsumexp`` as an operator."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from hardneg.ops.comparison import Comparison
from hardneg.ops.operators.registration import Gradients, Operator, empty_gradient
from hardneg.ops.requests import Engine, ExponentialTerms, Wanted
from hardneg.ops.tiled.logsumexp import logsumexp, logsumexp_backward
from hardneg.similarities import score_dtype

if TYPE_CHECKING:
    from jaxtyping import Float

__all__ = ["LOGSUMEXP"]


@dataclass(frozen=True, eq=False)
class Summed:
    """Results and their upstream gradients."""

    row_results: Float[Tensor, "n"]
    column_results: Float[Tensor, "m"]
    row_gradient: Float[Tensor, "n"]
    column_gradient: Float[Tensor, "m"]


def run(comparison: Comparison, terms: ExponentialTerms, engine: Engine) -> tuple[Tensor, ...]:
    """See ``DenseScores.logsumexp``."""
    if engine.fused:
        from hardneg.ops.triton import logsumexp as kernels

        return kernels.logsumexp(comparison, terms)
    return logsumexp(comparison, terms, engine.tile_size)


def shapes(comparison: Comparison, terms: ExponentialTerms, engine: Engine) -> tuple[Tensor, ...]:
    """A result and a largest exponent for each query and each candidate."""
    like = comparison.queries
    n = like.shape[0] if terms.rows else 0
    m = comparison.candidates.shape[0] if terms.columns else 0
    return tuple(like.new_empty(size, dtype=score_dtype(like)) for size in (n, m, n, m))


def run_backward(
    comparison: Comparison, terms: ExponentialTerms, engine: Engine, given: Summed, wanted: Wanted
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of queries, candidates and scale."""
    results = given.row_results, given.column_results
    upstream = (
        given.row_gradient if terms.rows else None,
        given.column_gradient if terms.columns else None,
    )
    if engine.fused:
        from hardneg.ops.triton import logsumexp as kernels

        asked = wanted, engine.one_set
        return kernels.logsumexp_backward(comparison, terms, results, upstream, *asked)
    return logsumexp_backward(comparison, terms, results, upstream, engine.tile_size, wanted)


def gradient_shapes(
    comparison: Comparison, terms: ExponentialTerms, engine: Engine, given: Summed, wanted: Wanted
) -> tuple[Tensor, ...]:
    """Gradients of queries and candidates, empty for a frozen side, and of the scale."""
    like = comparison.queries
    return (
        empty_gradient(like, wanted.queries),
        empty_gradient(comparison.candidates, wanted.candidates),
        like.new_empty((), dtype=score_dtype(like)),
    )


REQUESTS = (Comparison, ExponentialTerms, Engine)
LOGSUMEXP = Operator("logsumexp", REQUESTS, 4, run, shapes)
BACKWARD = Operator(
    "logsumexp_backward", (*REQUESTS, Summed, Wanted), 3, run_backward, gradient_shapes
)


def backward(
    requests: tuple[Comparison, ExponentialTerms, Engine],
    results: tuple[Tensor, ...],
    upstream: tuple[Tensor | None, Tensor | None],
    needed: set[str],
) -> Gradients:
    """Gradients of queries, candidates and scale."""
    given = (
        torch.zeros_like(result) if gradient is None else gradient
        for gradient, result in zip(upstream, results[:2], strict=True)
    )
    asked = (name in needed for name in ("queries", "candidates", "scale"))
    wanted = requests[2].wanted(*asked)
    dq, dc, slope = BACKWARD(*requests, Summed(*results[:2], *given), wanted)
    scale = requests[1].scale
    if scale is not None:
        slope = slope.to(scale.dtype).reshape(scale.shape)
    return {"queries": dq, "candidates": None if dc.dim() == 1 else dc, "scale": slope}


LOGSUMEXP.differentiate(backward, 2, by=BACKWARD)
