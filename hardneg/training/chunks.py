"""An encoder's inputs cut into chunks of rows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor

__all__ = ["Chunk", "chunks_of", "tensors_of"]

WHOLE = (bool, int, float, str, type(None))
"""What every chunk gets as it is; so do tensors without dimensions."""


@dataclass(frozen=True, eq=False)
class Chunk:
    """The arguments of one call of an encoder, for ``rows`` samples from row ``start`` on."""

    start: int
    rows: int
    positional: tuple[Any, ...]
    named: dict[str, Any]

    def tensors(self) -> list[Tensor]:
        """The tensors among the arguments."""
        return [x for x in (*self.positional, *self.named.values()) if isinstance(x, Tensor)]


def chunks_of(argument: str, inputs: Any, size: int) -> list[Chunk]:
    """Chunks of at most ``size`` rows, in order; of no rows, one empty chunk.

    A tensor is the encoder's only argument, a tuple or list its positional ones, a mapping its named
    ones. Every tensor among them has one row a sample.
    """
    named = dict(inputs) if isinstance(inputs, Mapping) else {}
    positional = () if named else tuple(inputs) if isinstance(inputs, tuple | list) else (inputs,)
    rows = rows_of(argument, [*positional, *named.values()])
    found = []
    for start in range(0, max(rows, 1), size):
        stop = min(start + size, rows)
        in_order = tuple(cut(x, start, stop) for x in positional)
        by_name = {name: cut(x, start, stop) for name, x in named.items()}
        found.append(Chunk(start, stop - start, in_order, by_name))
    return found


def tensors_of(inputs: Any) -> list[Tensor]:
    """The tensors among an encoder's inputs, whole."""
    if isinstance(inputs, Mapping):
        some = tuple(inputs.values())
    else:
        some = tuple(inputs) if isinstance(inputs, tuple | list) else (inputs,)
    return [x for x in some if isinstance(x, Tensor)]


def cut(argument: Any, start: int, stop: int) -> Any:
    """The rows of a tensor; anything else whole."""
    return argument[start:stop] if isinstance(argument, Tensor) and argument.dim() else argument


def rows_of(argument: str, arguments: list[Any]) -> int:
    """The number of samples, on which all tensors must agree."""
    for one in arguments:
        if not isinstance(one, (Tensor, *WHOLE)):
            raise TypeError(
                f"{argument} hold a {type(one).__name__}: expected tensors with one row a sample, or plain "
                "numbers; pass padded tensors with their lengths, and leave other things to the encoder"
            )
    rows = {len(one) for one in arguments if isinstance(one, Tensor) and one.dim()}
    if len(rows) != 1:
        found = ", ".join(map(str, sorted(rows))) or "no tensor with rows"
        raise ValueError(
            f"{argument} have rows: {found}; expected one row a sample in every tensor, the same number "
            "in all; what is not about single samples belongs into the encoder"
        )
    return rows.pop()
