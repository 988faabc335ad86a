"""A temperature, fixed or learned."""

from __future__ import annotations

import math
import struct
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.autograd import forward_ad

from hardneg.checks import check_number
from hardneg.losses.scalars import WithScalars, shown
from hardneg.similarities import working

if TYPE_CHECKING:
    from jaxtyping import Float

__all__ = ["Temperature"]


class Temperature(WithScalars):
    """A temperature, fixed or learned as CLIP does: the log of its inverse is the parameter.

    The state holds ``logit_scale``, whether learned or fixed; one kind can be loaded into the other.

    Args:
        temperature: the (first) value, above 0.
        learnable: whether it is trained.
        max_scale: 1 / temperature never exceeds it where it is trained, nor at first. At the bound the
            parameter stands still against gradients that push beyond it, and follows those that lead back.
    """

    logit_scale: Tensor

    def __init__(self, temperature: float, learnable: bool, max_scale: float = 100.0) -> None:
        super().__init__()
        temperature = check_number("temperature", temperature, above=0)
        self.max_scale = check_number("max_scale", max_scale, above=0)
        self.learnable = learnable
        log_scale = -math.log(temperature)
        self.hold("logit_scale", min(log_scale, self.bound) if learnable else log_scale, learnable)
        self.value = float(temperature)

    @property
    def bound(self) -> float:
        """The largest log scale."""
        return math.log(self.max_scale)

    def set_fixed(self, name: str, value: float) -> None:
        """Set the temperature by its log scale; one that was saved in float32 is met again exactly."""
        self.logit_scale = torch.full((1,), value, dtype=torch.float32, device="cpu")
        self.value = temperature_of(value)

    def _save_to_state_dict(self, destination: Any, prefix: str, keep_vars: bool) -> None:
        if (
            self.learnable
        ):  # an optimiser's momentum carries it a little beyond; a state holds what is used
            with torch.no_grad():
                self.logit_scale.clamp_(max=self.bound)
        super()._save_to_state_dict(destination, prefix, keep_vars)

    def forward(self) -> float | Float[Tensor, ""]:
        """The temperature, in float32 at least."""
        if not self.learnable:
            return self.value
        log_scale = working(self.logit_scale).reshape(())
        if (
            forward_ad._current_level >= 0
        ):  # of which a function with a backward of its own knows nothing
            bounded = log_scale + (log_scale.clamp(max=self.bound) - log_scale).detach()
        else:
            bounded = Bounded.apply(log_scale, self.bound)
        return (-bounded).exp()

    def extra_repr(self) -> str:
        """The choices, and the temperature that the loss would use now."""
        with torch.no_grad():
            unreadable = self.learnable and shown(self.logit_scale) == "?"
            now = "?" if unreadable else shown(self())
        return f"temperature={now}, learnable={self.learnable}, max_scale={self.max_scale}"


def temperature_of(log_scale: float) -> float:
    """The temperature of six digits that has this log scale in float32, if there is one, else that of the log scale."""
    exact = math.exp(min(-log_scale, 700.0))
    short = float(f"{exact:.6g}")
    return short if short > 0 and in_float32(-math.log(short)) == in_float32(log_scale) else exact


def in_float32(x: float) -> float:
    """A number rounded to float32."""
    rounded: float = struct.unpack("f", struct.pack("f", x))[0]
    return rounded


class Bounded(torch.autograd.Function):
    """``min(x, bound)``, whose gradient beyond the bound is that of x where it leads back, else 0.

    With the true gradient, 0, x could never come back; with that of x throughout it would go on growing unseen.
    """

    generate_vmap_rule = True

    @staticmethod
    def forward(x: Tensor, bound: float) -> Tensor:
        """The smaller of both."""
        return x.clamp(max=bound)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, float], output: Tensor) -> None:
        """Keep whether x is beyond the bound."""
        x, bound = inputs
        ctx.save_for_backward(x > bound)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        """Descending along a gradient below 0 would raise x."""
        (beyond,) = ctx.saved_tensors
        return torch.where(beyond & (gradient < 0), 0.0, gradient), None
