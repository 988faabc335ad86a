"""A whole loss over a small matrix as one step of autograd."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from hardneg.ops.comparison import Comparison
from hardneg.ops.requests import LabelledLoss, LossRequest, PairedLoss, SupervisedLoss, Wanted
from hardneg.ops.scores import NO_SECOND_DERIVATIVE
from hardneg.ops.small.labelled import has_few_pairs, labelled_loss
from hardneg.ops.small.matrix import Matrix
from hardneg.ops.small.paired import paired_loss
from hardneg.ops.small.slopes import Slopes
from hardneg.ops.small.supervised import supervised_loss
from hardneg.penalties import is_builtin

if TYPE_CHECKING:
    from jaxtyping import Float

__all__ = ["is_known", "whole_loss"]


def whole_loss(comparison: Comparison, loss: LossRequest) -> Float[Tensor, ""]:
    """A loss in float32 or float64: the scores once, and what follows from them by hand."""
    value: Tensor = WholeLoss.apply(
        comparison, loss, comparison.queries, comparison.candidates, loss.scale
    )
    return value


EQUATIONS: dict[type, Callable[[Comparison, Tensor, Any, bool], Slopes]] = {
    PairedLoss: paired_loss,
    LabelledLoss: labelled_loss,
    SupervisedLoss: supervised_loss,
}


SEVERAL, SPARSE = 8, 1 << 18
"""Up to how many scores a CPU takes less time for whole products than for gathering rows, of fewer than several."""


def is_known(loss: LossRequest, comparison: Comparison) -> bool:
    """Whether a loss is known as a whole."""
    strategy = loss.negatives
    if isinstance(loss, SupervisedLoss):
        return strategy.complete and strategy.ceiling is None
    n, width = comparison.queries.shape
    selection = strategy.selection(width)
    if n == 1 or strategy.mean_if_closer is not None:
        return False
    if loss.penalty is not None and not is_builtin(loss.penalty):
        return False
    if selection is None:
        return (
            isinstance(loss, PairedLoss)
            and strategy.ceiling is None
            and (loss.reduction != "mean_active" or loss.penalty is None)
        )
    if selection.order != "highest" or selection.skip >= n:
        return False
    cpu = comparison.queries.device.type == "cpu"
    if cpu and selection.k < SEVERAL and n * len(comparison.candidates) > SPARSE:
        return False
    return isinstance(loss, PairedLoss) or has_few_pairs(comparison)


class WholeLoss(torch.autograd.Function):
    """The loss, with the gradients of the embeddings computed on the way, so that no matrix is kept."""

    @staticmethod
    def forward(
        ctx: Any,
        comparison: Comparison,
        loss: LossRequest,
        queries: Float[Tensor, "n d"],
        candidates: Float[Tensor, "m d"],
        scale: float | Tensor | None,
    ) -> Float[Tensor, ""]:
        """The loss."""
        wanted = Wanted(*ctx.needs_input_grad[2:])
        with without_autocast(queries):
            matrix = Matrix.of(comparison.similarity, queries, candidates)
            found = EQUATIONS[type(loss)](comparison, matrix.scores, loss, any(wanted))
            dq = dc = None
            if found.by_scores is not None and wanted.embeddings:
                dq, dc = matrix.gradients(found.by_scores, wanted)
        ctx.save_for_backward(dq, dc, found.by_scale, matrix.finite)
        ctx.dtype = queries.dtype
        return found.value if matrix.finite is None else found.value + matrix.finite

    @staticmethod
    def backward(ctx: Any, upstream: Float[Tensor, ""]) -> tuple[Tensor | None, ...]:
        """The gradients of queries, candidates and scale."""
        if torch.is_grad_enabled():
            raise RuntimeError(NO_SECOND_DERIVATIVE)
        *gradients, finite = ctx.saved_tensors
        upstream = upstream if finite is None else upstream + finite
        dq, dc, by_scale = (None if g is None else g * upstream for g in gradients)
        return None, None, rounded(dq, ctx.dtype), rounded(dc, ctx.dtype), by_scale


def rounded(gradient: Tensor | None, dtype: torch.dtype) -> Tensor | None:
    """A gradient in the type of the embeddings."""
    return gradient if gradient is None or gradient.dtype == dtype else gradient.to(dtype)


def without_autocast(x: Tensor) -> AbstractContextManager[Any]:
    """No automatic casts; nothing to do where there are none."""
    kind = x.device.type
    if torch.is_autocast_enabled(kind):
        return torch.autocast(kind, enabled=False)
    return nullcontext()
