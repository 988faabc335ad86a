"""Numbers of a loss that its state holds: learned parameters of length 1, or fixed Python numbers."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from hardneg.checks import check_number, number_field
from hardneg.ops.scores import Scores

__all__ = ["Learned", "WithScalars", "fill", "shown"]

HALF = (torch.float16, torch.bfloat16)


@dataclass(frozen=True)
class Learned:
    """A number that is trained.

    Args:
        value: the first value.
        max_scale: of a temperature: 1 / temperature never exceeds it, nor at first.
    """

    value: float
    max_scale: float = 100.0

    def __post_init__(self) -> None:
        number_field(self, "value")
        number_field(self, "max_scale", above=0)


class WithScalars(nn.Module):
    """A module that holds numbers by name, each learned or fixed.

    A learned one is a parameter of length 1, since ``fully_shard`` takes none without dimensions, and stays
    float32 in a module of half precision, where 3 digits of a temperature would be lost. A fixed one is a
    plain number, so that a loss neither reads it from a device nor rounds it. Both have the same entry in the
    state, and what is loaded counts, whichever kind it was saved from.
    """

    def __init__(self) -> None:
        super().__init__()
        self.fixed: tuple[str, ...] = ()

    def hold(self, name: str, value: float, learned: bool) -> None:
        """Hold a number under that name."""
        if learned:
            parameter = torch.full((1,), value, dtype=torch.float32)
            self.register_parameter(name, nn.Parameter(parameter))
        else:
            self.fixed = (*self.fixed, name)
            self.set_fixed(name, value)

    def hold_choice(self, name: str, choice: float | Tensor | Learned) -> None:
        """Hold a number or ``Learned`` under that name; a tensor stays outside the state."""
        if isinstance(choice, Tensor):
            setattr(self, name, choice)
        else:
            learned = isinstance(choice, Learned)
            value = choice.value if isinstance(choice, Learned) else choice
            self.hold(name, check_number(name, value), learned)

    def set_fixed(self, name: str, value: float) -> None:
        """Set a fixed number."""
        setattr(self, name, value)

    def fixed_number(self, name: str) -> float:
        """A fixed number, as the state holds it."""
        return float(getattr(self, name))

    def _save_to_state_dict(self, destination: Any, prefix: str, keep_vars: bool) -> None:
        super()._save_to_state_dict(destination, prefix, keep_vars)
        for name in self.fixed:
            value = self.fixed_number(name)
            destination[prefix + name] = torch.full((1,), value, dtype=torch.float32, device="cpu")

    def _load_from_state_dict(self, state_dict: Any, prefix: str, *rest: Any) -> None:
        _, strict, missing, _, errors = rest
        for name in self._parameters:
            given = state_dict.get(prefix + name)
            if isinstance(given, Tensor) and given.dim() == 0:  # as earlier versions saved it
                state_dict[prefix + name] = given.reshape(1)
        for name in self.fixed:
            given = state_dict.pop(prefix + name, None)
            value = None if given is None else as_number(given)
            if given is None and strict:
                missing.append(prefix + name)
            elif value is not None and math.isfinite(value):
                self.set_fixed(name, value)
            elif given is not None and not given.is_meta:
                errors.append(f"{prefix}{name} is {given}: expected one finite number")
        super()._load_from_state_dict(state_dict, prefix, *rest)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Any:
        if recurse:
            for module in self.children():
                module._apply(fn)

        def keeping_precision(x: Tensor) -> Tensor:
            moved = fn(x)
            return x.to(moved.device) if moved.dtype in HALF and x.dtype not in HALF else moved

        return super()._apply(keeping_precision, recurse=False)  # type: ignore[no-untyped-call]


def fill(shape: tuple[int, ...], value: float, scores: Scores) -> Tensor:
    """A number in the type of the scores, on their device without a copy from the host.

    The compiler makes a graph for every number that a tensor is filled with, but one graph for all factors.
    """
    if torch.compiler.is_compiling():
        return torch.ones(shape, dtype=scores.dtype, device=scores.device) * value
    return torch.full(shape, value, dtype=scores.dtype, device=scores.device)


def as_number(given: Tensor) -> float | None:
    """The number of a tensor of length 1, read once, when a state is loaded; None for any other."""
    whole = given.full_tensor() if hasattr(given, "full_tensor") else given
    return None if whole.numel() != 1 or whole.is_meta else float(whole)


def shown(x: float | Tensor) -> str:
    """A held number in few digits; a question mark where it cannot be read here."""
    if isinstance(x, Tensor):
        if x.numel() != 1 or x.is_meta or hasattr(x, "full_tensor"):
            return "?"
        x = float(x.detach())
    return f"{x:.6g}"
