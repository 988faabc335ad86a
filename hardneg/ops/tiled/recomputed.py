"""A tiled reduction under autograd, whose backward recomputes the tiles."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from hardneg.ops.executor import NO_SECOND_DERIVATIVE
from hardneg.ops.requests import Wanted

__all__ = ["Recomputed", "Saved"]

Saved = tuple[Any, ...]
"""Tensors, or None in place of one that was not given."""


class Recomputed(torch.autograd.Function):
    """Runs a tiled reduction forward, and its gradient, by recomputed tiles, backward."""

    @staticmethod
    def forward(
        ctx: Any,
        run: Callable[..., tuple[Tensor, ...]],
        differentiate: Callable[[Saved, Saved, Saved, Wanted], tuple[Tensor | None, ...]],
        results: int,
        *tensors: Tensor | None,
    ) -> tuple[Tensor, ...]:
        """``run(*tensors)``, of which the first ``results`` have a gradient."""
        outputs = run(*tensors)
        ctx.mark_non_differentiable(*outputs[results:])
        ctx.save_for_backward(*tensors, *outputs)
        ctx.differentiate, ctx.inputs = differentiate, len(tensors)
        return outputs

    @staticmethod
    def backward(ctx: Any, *upstream: Tensor) -> Any:
        """``differentiate(tensors, outputs, upstream, wanted)``: one gradient for each tensor."""
        if torch.is_grad_enabled():
            raise RuntimeError(NO_SECOND_DERIVATIVE)
        saved = ctx.saved_tensors
        tensors, outputs = saved[: ctx.inputs], saved[ctx.inputs :]
        needed = ctx.needs_input_grad[3:]
        wanted = Wanted(needed[0], needed[1], needed[-1])
        found = ctx.differentiate(tensors, outputs, upstream, wanted)
        kept = (x if on else None for x, on in zip(found, needed, strict=True))
        return None, None, None, *kept
