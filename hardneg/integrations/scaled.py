"""A loss whose temperature, and bias, are those of a model."""

from __future__ import annotations

import inspect
from typing import Any

from torch import Tensor

from hardneg.losses.base import PairLoss
from hardneg.losses.temperature import Temperature

__all__ = ["check_scaled", "has_temperature", "with_scale"]


def has_temperature(loss: PairLoss) -> bool:
    """Whether scores are divided by one."""
    return "temperature" in inspect.signature(type(loss)).parameters


def check_scaled(loss: Any) -> PairLoss:
    """A loss on pairs that can take a model's scale.

    Raises:
        TypeError, ValueError: for others, and for a temperature that is learned beside the model's.
    """
    if not isinstance(loss, PairLoss) or not has_temperature(loss):
        raise TypeError(
            f"loss is {loss!r}: expected a loss on pairs with a temperature, such as InfoNCELoss()"
        )
    temperature: Any = loss.temperature
    if isinstance(temperature, Temperature) and temperature.learned:
        raise ValueError(
            "the loss learns a temperature beside the model's logit_scale: give it a number, which that replaces"
        )
    return loss


def with_scale(
    loss: PairLoss, scale: float | Tensor, bias: float | Tensor | None = None
) -> PairLoss:
    """The loss with the same choices, but for its temperature, ``1 / scale``, and its bias, if it has one."""
    names = inspect.signature(type(loss)).parameters
    chosen: dict[str, Any] = {name: getattr(loss, name) for name in names}
    chosen["temperature"] = 1 / scale
    if bias is not None and "bias" in names:
        chosen["bias"] = bias
    return type(loss)(**chosen)
