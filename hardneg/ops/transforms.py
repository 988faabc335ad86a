"""Whether a ``torch.func`` transform or a forward-mode derivative is at work."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.autograd import forward_ad

__all__ = ["check_untransformed", "is_wrapped"]

DENSE_ONLY = (
    "hardneg: {what} passes through the loss, which the tiled and fused reductions do not follow: use "
    'backend="dense", or plain autograd (backward, torch.autograd.grad)'
)


# The compiler of earlier releases cannot trace the depth; it answers the level where no transform is active, and
# breaks the graph where one is.
DEPTH_IS_TRACED = torch.__version__ >= "2.13"


def in_functorch() -> bool:
    """Whether a function transform (grad, vmap, jvp, jacrev ...) is active."""
    if DEPTH_IS_TRACED:
        depth: int = torch._C._functorch.get_dynamic_layer_stack_depth()
        return depth > 0
    return torch._C._functorch.maybe_current_level() is not None


def is_wrapped(x: Tensor) -> bool:
    """Whether a function transform keeps the tensor's numbers to itself."""
    if not in_functorch():
        return False
    # the compiler, which cannot trace the question, is told the cautious answer
    return torch.compiler.is_compiling() or torch._C._functorch.is_functorch_wrapped_tensor(x)


def check_untransformed() -> None:
    """Nothing but ordinary autograd is asked for.

    Operators with a backward of their own drop forward-mode tangents without a word, and function transforms
    either fail in PyTorch's own words or take the operators apart one sample at a time.

    Raises:
        RuntimeError: inside a ``torch.func`` transform or a dual level.
    """
    if in_functorch():
        raise RuntimeError(DENSE_ONLY.format(what="a torch.func transform"))
    if forward_ad._current_level >= 0:
        raise RuntimeError(DENSE_ONLY.format(what="a forward-mode derivative"))
