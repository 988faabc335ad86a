"""A temperature, fixed or learned."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from hardneg.checks import check_number

if TYPE_CHECKING:
    from jaxtyping import Float

__all__ = ["Temperature"]


class Temperature(nn.Module):
    """A temperature, fixed or learned as CLIP does: the log of its inverse is the parameter.

    Args:
        temperature: the (first) value, above 0.
        learnable: whether it is trained.
        max_scale: 1 / temperature never exceeds it; the gradient still passes, so that it can come back.
    """

    def __init__(self, temperature: float, learnable: bool, max_scale: float = 100.0) -> None:
        super().__init__()
        check_number("temperature", temperature, above=0)
        check_number("max_scale", max_scale, above=0)
        self.max_scale, self.learnable = max_scale, learnable
        logit_scale = torch.tensor(-math.log(temperature))
        if learnable:
            self.logit_scale = nn.Parameter(logit_scale)
        else:
            self.register_buffer("logit_scale", logit_scale)
        self.fixed = float(temperature)

    def forward(self) -> float | Float[Tensor, ""]:
        """The temperature."""
        if not self.learnable:
            return self.fixed
        bounded = self.logit_scale.clamp(max=math.log(self.max_scale))
        passed = self.logit_scale + (bounded - self.logit_scale).detach()
        return (-passed).exp()

    def extra_repr(self) -> str:
        """The choices."""
        return f"temperature={self.fixed}, learnable={self.learnable}, max_scale={self.max_scale}"
