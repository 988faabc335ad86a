"""A temperature, fixed or learned."""

from __future__ import annotations

import math
import struct
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.autograd import forward_ad

from hardneg.checks import check_number
from hardneg.losses.scalars import Learned, WithScalars, fill, shown
from hardneg.ops.scores import Scores
from hardneg.similarities import upcast

if TYPE_CHECKING:
    from jaxtyping import Float

__all__ = ["Temperature"]


class Temperature(WithScalars):
    """A temperature, fixed or learned as CLIP does: the log of its inverse is the parameter.

    The state holds ``logit_scale``, whether learned or fixed; one kind can be loaded into the other. At its bound the
    parameter stands still against gradients that push beyond it, and follows those that lead back.

    Args:
        temperature: above 0: a number, ``Learned``, or a scalar tensor, which the state does not hold.
    """

    logit_scale: Tensor

    def __init__(self, temperature: float | Tensor | Learned) -> None:
        super().__init__()
        self.learned = isinstance(temperature, Learned)
        self.max_scale = math.inf
        self.value: float | Tensor = math.nan
        if isinstance(temperature, Tensor):
            if temperature.numel() != 1:
                raise ValueError(
                    f"temperature has shape {tuple(temperature.shape)}: expected a number or a scalar tensor; make the "
                    "loss first, then call it with the embeddings"
                )
            self.value = temperature
            return
        if isinstance(temperature, Learned):
            self.max_scale = temperature.max_scale
            log_scale = -math.log(check_number("temperature", temperature.value, above=0))
            self.hold("logit_scale", min(log_scale, self.bound), learned=True)
        else:
            self.fixed = ("logit_scale",)
            self.value = check_number("temperature", temperature, above=0)

    @property
    def bound(self) -> float:
        """The largest log scale."""
        return math.log(self.max_scale) if self.max_scale < math.inf else math.inf

    def set_fixed(self, name: str, value: float) -> None:
        """Set the temperature by its log scale; one that was saved in float32 is met again exactly."""
        self.value = temperature_of(value)

    def fixed_number(self, name: str) -> float:
        """The log scale of a fixed temperature."""
        return -math.log(self.value)

    def _save_to_state_dict(self, destination: Any, prefix: str, keep_vars: bool) -> None:
        if self.learned:
            # an optimiser's momentum carries it a little beyond; a state holds what is used
            with torch.no_grad():
                self.logit_scale.clamp_(max=self.bound)
        super()._save_to_state_dict(destination, prefix, keep_vars)

    def forward(self) -> float | Float[Tensor, ""]:
        """The temperature, in float32 at least."""
        if not self.learned:
            return self.value
        log_scale = upcast(self.logit_scale).reshape(())
        if forward_ad._current_level >= 0:
            # of which a function with a backward of its own knows nothing
            bounded = log_scale + (log_scale.clamp(max=self.bound) - log_scale).detach()
        else:
            bounded = Bounded.apply(log_scale, self.bound)
        return (-bounded).exp()

    def factor(self, scores: Scores) -> float | Float[Tensor, ""]:
        """1 / temperature, as ``scale``; a number where the temperature is one."""
        if self.learned:
            factor: Tensor = Factor.apply(self.logit_scale, self.bound, scores.dtype)
            return factor
        return self.scale(scores) if isinstance(self.value, Tensor) else 1 / self.value

    def scale(self, scores: Scores) -> Float[Tensor, ""]:
        """1 / temperature in the type of the scores, without a copy from the host.

        A tensor that is not above 0 makes the loss NaN: reading it would synchronise.
        """
        temperature = self()
        if not isinstance(temperature, Tensor):
            if not torch.compiler.is_compiling():
                return fill((), 1 / temperature, scores)
            # before 2.13 the compiler makes a graph for every reciprocal of a number
            return torch.div(fill((), 1.0, scores), temperature)
        value = temperature.to(scores.dtype).reshape(())
        return torch.where(value > 0, 1 / value, torch.nan)

    def extra_repr(self) -> str:
        """The choices, and the temperature that the loss would use now."""
        with torch.no_grad():
            unreadable = self.learned and shown(self.logit_scale) == "?"
            now = "?" if unreadable else shown(self())
        bound = f", max_scale={self.max_scale}" if self.learned else ""
        learned = self.learned or isinstance(self.value, torch.nn.Parameter)
        return f"temperature={now}, learned={learned}{bound}"


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
        return leading_back(gradient, beyond), None


class Factor(torch.autograd.Function):
    """1 / temperature in the type of the scores, from its log, with the gradient of ``Bounded``, in one step."""

    @staticmethod
    def forward(ctx: Any, log_scale: Tensor, bound: float, dtype: torch.dtype) -> Tensor:
        """The factor, rounded as by ``Temperature.scale``."""
        x = upcast(log_scale).reshape(())
        temperature = x.clamp(max=bound).neg_().exp_()
        factor = temperature.to(dtype).reciprocal()
        ctx.save_for_backward(log_scale, factor)
        ctx.bound = bound
        return factor

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        """The derivative of an exponential is itself."""
        log_scale, factor = ctx.saved_tensors
        found = (gradient * factor).to(log_scale.dtype).reshape(log_scale.shape)
        if log_scale.device.type != "cpu" or float(log_scale) > ctx.bound:
            found = leading_back(found, log_scale > ctx.bound)
        return found, None, None


def leading_back(gradient: Tensor, beyond: Tensor) -> Tensor:
    """The gradient, 0 where x is beyond the bound and would rise."""
    return torch.where(beyond & (gradient < 0), 0.0, gradient)
