"""Gradients of 16-bit embeddings: added up in float32 over all reductions of a loss, rounded once."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from hardneg.ops.comparison import Comparison

if TYPE_CHECKING:
    from jaxtyping import Float

__all__ = ["in_float32", "own_comparison", "with_float32_gradients"]

HALF = (torch.float16, torch.bfloat16)


class Float32Gradient(torch.autograd.Function):
    """A float32 tensor of zeros, without memory, whose gradient is rounded to the type of the input.

    Autograd adds up the gradients of a tensor in its type, so shares that cancel would leave their rounding.
    Operators take the embeddings as they are and return float32 gradients to this tensor.
    """

    @staticmethod
    def forward(ctx: Any, x: Float[Tensor, "n d"]) -> Float[Tensor, "n d"]:
        """Zeros, all in one place."""
        ctx.kind = x.dtype
        return x.new_zeros((), dtype=torch.float32).expand(x.shape)

    @staticmethod
    def backward(ctx: Any, gradient: Float[Tensor, "n d"]) -> Float[Tensor, "n d"]:
        """The sum of all shares, rounded."""
        return gradient.to(ctx.kind)


def with_float32_gradients(comparison: Comparison) -> Comparison:
    """The comparison for the project's operators."""
    q, c = comparison.queries, comparison.candidates
    if not torch.is_grad_enabled() or q.dtype not in HALF:
        return comparison
    if comparison.to_queries is not None or comparison.to_candidates is not None:
        return comparison
    to_queries = float32_gradient(q)
    to_candidates = to_queries if c is q else float32_gradient(c)
    queries = q.detach()
    candidates = queries if c is q else c.detach()
    return Comparison(
        queries,
        candidates,
        comparison.similarity,
        comparison.relation,
        to_queries,
        to_candidates,
    )


def own_comparison(comparison: Comparison, own: Float[Tensor, "n k d"]) -> Comparison:
    """The queries of such a comparison with embeddings of their own, listed one query after the other."""
    others = own.flatten(0, 1)
    if not torch.is_grad_enabled() or own.dtype not in HALF:
        return replace(comparison, candidates=others, to_candidates=None)
    given = float32_gradient(others)
    return replace(comparison, candidates=others.detach(), to_candidates=given)


def float32_gradient(x: Float[Tensor, "n d"]) -> Float[Tensor, "n d"] | None:
    """Where the gradient of embeddings goes; None for frozen ones."""
    return Float32Gradient.apply(x) if x.requires_grad else None


def in_float32(comparison: Comparison) -> Comparison:
    """The comparison for plain autograd: 16-bit embeddings as float32, in which their gradients are added up."""
    q, c = comparison.queries, comparison.candidates
    if q.dtype not in HALF:
        return comparison
    queries = q.float()
    return replace(comparison, queries=queries, candidates=queries if c is q else c.float())
