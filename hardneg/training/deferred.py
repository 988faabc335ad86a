"""Embeddings whose backward pass encodes them once more."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from hardneg.training.passes import Collected, Step

__all__ = ["deferred"]


def deferred(step: Step, collected: Collected) -> list[Tensor]:
    """The embeddings of a step, all encoders' in order, behind which backward runs the second pass."""
    # autograd only enters a function that has an input with a gradient
    device = step.embeddings[0][0].device
    entrance = torch.zeros((), device=device, requires_grad=True)
    return list(Encoded.apply(step, collected, entrance, *collected.leaves))


class Encoded(torch.autograd.Function):
    """What the first pass found; its backward is the second pass."""

    @staticmethod
    def forward(
        ctx: Any, step: Step, collected: Collected, entrance: Tensor, *leaves: Tensor
    ) -> tuple[Tensor, ...]:
        """The embeddings."""
        ctx.step, ctx.collected = step, collected
        ctx.set_materialize_grads(False)
        # other tensors than those that the step holds: with their graph these would hold themselves
        found = [x.detach() for side in step.embeddings for x in side]
        ctx.mark_non_differentiable(*[x for x in found if not x.is_floating_point()])
        return tuple(found)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor | None) -> tuple[Tensor | None, ...]:
        """The gradients of the collected leaves; all others are in ``.grad``."""
        step, collected, given = ctx.step, ctx.collected, list(gradients)
        of_sides = [[given.pop(0) for _ in side] for side in step.embeddings]
        try:
            step.second_pass(of_sides, collected)
        finally:
            found = collected.take()
        return None, None, None, *found
