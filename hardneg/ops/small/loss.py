"""A whole loss over a small matrix as one step of autograd."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor

from hardneg.ops.comparison import Comparison
from hardneg.ops.loss_requests import (
    EveryPairLoss,
    LabelledLoss,
    LossRequest,
    PairedLoss,
    SupervisedLoss,
    TwoSidedLoss,
)
from hardneg.ops.requests import Wanted
from hardneg.ops.scores import NO_SECOND_DERIVATIVE
from hardneg.ops.small.every_pair import every_pair_loss, knows_every_pair
from hardneg.ops.small.labelled import knows_labelled, labelled_loss
from hardneg.ops.small.matrix import gradients, matrix_of, oddness
from hardneg.ops.small.own import WithOwn
from hardneg.ops.small.paired import knows_paired, paired_loss
from hardneg.ops.small.slopes import Slopes
from hardneg.ops.small.supervised import knows_supervised, supervised_loss
from hardneg.ops.small.two_sided import knows_two_sided, two_sided_loss

if TYPE_CHECKING:
    from jaxtyping import Float

__all__ = ["is_known", "whole_loss"]


class Equation(NamedTuple):
    """How a kind of loss is computed: which of them are ``known``, and their value and derivatives."""

    known: Callable[[Any, Comparison], bool]
    slopes: Callable[[Comparison, Tensor, Any, bool], Slopes]


EQUATIONS: dict[type[LossRequest], Equation] = {
    PairedLoss: Equation(knows_paired, paired_loss),
    LabelledLoss: Equation(knows_labelled, labelled_loss),
    SupervisedLoss: Equation(knows_supervised, supervised_loss),
    EveryPairLoss: Equation(knows_every_pair, every_pair_loss),
    TwoSidedLoss: Equation(knows_two_sided, two_sided_loss),
}


def is_known(loss: LossRequest, comparison: Comparison) -> bool:
    """Whether a loss is known as a whole."""
    return EQUATIONS[type(loss)].known(loss, comparison)


def whole_loss(
    comparison: Comparison, loss: LossRequest, own: Float[Tensor, "n k d"] | None = None
) -> Float[Tensor, ""]:
    """A loss in float32 or float64: the scores once, and what follows from them by hand.

    Args:
        own: negatives of each query alone, which the relation of the comparison knows as further candidates.
    """
    sides = comparison.queries, comparison.candidates
    value: Tensor = WholeLoss.apply(comparison, loss, *sides, loss.scale, loss.bias, own)
    return value


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
        bias: float | Tensor | None,
        own: Float[Tensor, "n k d"] | None,
    ) -> Float[Tensor, ""]:
        """The loss."""
        *of_inputs, of_bias, of_own = ctx.needs_input_grad[2:]
        wanted = Wanted(*of_inputs)
        with without_autocast(queries):
            told = comparison.similarity, queries, candidates
            matrix = matrix_of(*told, scale)
            with_own = None if own is None else WithOwn.of(matrix, *told[1:], own, scale)
            scores = matrix.scores if with_own is None else with_own.scores
            slopes = any(wanted) or of_bias or of_own
            found = EQUATIONS[type(loss)].slopes(comparison, scores, loss, slopes)
            by_scale, by_bias = by_numbers(scores, found, loss, wanted.scale, of_bias)
            dq = dc = do = None
            if found.by_scores is not None and (wanted.embeddings or of_own):
                given = candidates is queries, comparison.similarity, found.by_scores, wanted
                if with_own is None:
                    dq, dc = gradients(matrix, *given)
                else:
                    dq, dc, do = with_own.pulls(*given, of_own)
            odd = oddness(matrix, queries, candidates) if with_own is None else with_own.oddness
        ctx.save_for_backward(dq, dc, by_scale, by_bias, do, odd)
        ctx.dtype = queries.dtype
        return found.value if odd is None else found.value + odd

    @staticmethod
    def backward(ctx: Any, upstream: Float[Tensor, ""]) -> tuple[Tensor | None, ...]:
        """The gradients of queries, candidates, scale, bias and own negatives."""
        if torch.is_grad_enabled():
            raise RuntimeError(NO_SECOND_DERIVATIVE)
        *gradients, odd = ctx.saved_tensors
        upstream = upstream if odd is None else upstream + odd
        dq, dc, *by_numbers, do = (None if g is None else g * upstream for g in gradients)
        dq, dc, do = (rounded(g, ctx.dtype) for g in (dq, dc, do))
        return None, None, dq, dc, *by_numbers, do


def by_numbers(
    scores: Float[Tensor, "n m"], found: Slopes, loss: LossRequest, of_scale: bool, of_bias: bool
) -> tuple[Tensor | None, Tensor | None]:
    """The derivatives by the scale and by the bias, where they are wanted."""
    by_scale = by_bias = None
    if of_scale and found.by_scores is not None and isinstance(loss.scale, Tensor):
        by_scale = (found.by_scores * scores).sum() / loss.scale
        if found.by_scale is not None:
            by_scale += found.by_scale
    if of_bias and found.by_scores is not None and isinstance(loss.bias, Tensor):
        by_bias = found.by_scores.sum().to(loss.bias.dtype).reshape(loss.bias.shape)
    return by_scale, by_bias


def rounded(gradient: Tensor | None, dtype: torch.dtype) -> Tensor | None:
    """A gradient in the type of the embeddings."""
    return gradient if gradient is None or gradient.dtype == dtype else gradient.to(dtype)


def without_autocast(x: Tensor) -> AbstractContextManager[Any]:
    """No automatic casts; nothing to do where there are none."""
    kind = x.device.type
    if torch.is_autocast_enabled(kind):
        return torch.autocast(kind, enabled=False)
    return nullcontext()
