"""A whole loss of paired rows by the kernels of small batches, as one step of autograd."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any, TypeGuard

import torch
from torch import Tensor

from hardneg.ops.comparison import Comparison
from hardneg.ops.loss_requests import LossRequest, PairedLoss
from hardneg.ops.requests import Wanted
from hardneg.ops.scores import NO_SECOND_DERIVATIVE
from hardneg.ops.small.loss import without_autocast
from hardneg.ops.triton.support import CAPABILITY, FUSED_TYPES, HAS_TRITON, capability
from hardneg.penalties import is_builtin
from hardneg.similarities import Cosine, Dot

if TYPE_CHECKING:
    from jaxtyping import Float

__all__ = ["has_kernels", "kernel_loss", "takes_kernels"]


def takes_kernels(comparison: Comparison) -> bool:
    """Whether there are kernels for losses of these embeddings, and they run where those are."""
    x = comparison.queries
    known = type(comparison.similarity) in (Cosine, Dot) and x.dtype in FUSED_TYPES
    return known and x.is_cuda and runs_kernels(x.device)


@cache
def runs_kernels(device: torch.device) -> bool:
    """Whether a GPU is there, and runs the kernels."""
    return HAS_TRITON and torch.cuda.is_available() and capability(device) >= CAPABILITY


def has_kernels(loss: LossRequest, comparison: Comparison) -> TypeGuard[PairedLoss]:
    """Whether kernels know a loss of embeddings that they take."""
    if not isinstance(loss, PairedLoss):
        return False
    strategy, scale = loss.negatives, loss.scale
    if strategy.mean_if_closer is not None or loss.bias is not None:
        return False
    if loss.penalty is not None and not is_builtin(loss.penalty):
        return False
    if isinstance(scale, Tensor) and scale.device != comparison.queries.device:
        return False
    selection = strategy.selection(comparison.queries.shape[1])
    if selection is None:
        return strategy.ceiling is None
    if strategy.ceiling is not None and type(comparison.similarity) is not Cosine:
        return False
    return selection.order == "highest" and selection.k == 1 and selection.skip == 0


def kernel_loss(comparison: Comparison, loss: PairedLoss) -> Float[Tensor, ""]:
    """The loss in float32, in one step."""
    sides = comparison.queries, comparison.candidates
    value: Tensor = KernelLoss.apply(comparison, loss, *sides, loss.scale)
    return value


class KernelLoss(torch.autograd.Function):
    """The loss, with the products for its gradients computed on the way, so that no matrix is kept."""

    @staticmethod
    def forward(
        ctx: Any,
        comparison: Comparison,
        loss: PairedLoss,
        queries: Float[Tensor, "n d"],
        candidates: Float[Tensor, "m d"],
        scale: float | Tensor | None,
    ) -> Float[Tensor, ""]:
        """The loss."""
        from hardneg.ops.triton.small.loss import (
            forward,  # Triton is imported with the first kernel
        )

        wanted = Wanted(*ctx.needs_input_grad[2:])
        with without_autocast(queries):
            value, step, ctx.about = forward(comparison, loss, wanted)
        ctx.save_for_backward(*step)
        return value

    @staticmethod
    def backward(ctx: Any, upstream: Float[Tensor, ""]) -> tuple[Tensor | None, ...]:
        """The gradients of queries, candidates and scale."""
        from hardneg.ops.triton.small.loss import Step, backward

        if torch.is_grad_enabled():
            raise RuntimeError(NO_SECOND_DERIVATIVE)
        wanted = Wanted(*ctx.needs_input_grad[2:])
        return None, None, *backward(Step(*ctx.saved_tensors), ctx.about, upstream, wanted)
