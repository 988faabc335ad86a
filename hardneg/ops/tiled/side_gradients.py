"""Where the gradients of the two sides are added up, tile by tile; a frozen side has no place."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

import torch
from torch import Tensor

from hardneg.ops.grid import chunks
from hardneg.ops.requests import Wanted
from hardneg.similarities import score_dtype

if TYPE_CHECKING:
    from jaxtyping import Float

__all__ = ["accumulators", "finish_sides", "project_out_length"]

ROWS_AT_ONCE = 1024


class TwoSides(Protocol):
    """Both inputs, which of them want a gradient, and the sums so far: None if frozen, or before the first tile."""

    queries: Tensor
    candidates: Tensor
    wanted: Wanted
    dq: Tensor | None
    dc: Tensor | None


def accumulators(
    q: Float[Tensor, "n d"], c: Float[Tensor, "m d"], wanted: Wanted
) -> tuple[Tensor | None, Tensor | None]:
    """Zeros to which the gradients of both sides are added; None for a frozen one."""
    contiguous = torch.contiguous_format
    return (
        torch.zeros_like(q, memory_format=contiguous) if wanted.queries else None,
        torch.zeros_like(c, memory_format=contiguous) if wanted.candidates else None,
    )


def finish_sides(sides: TwoSides) -> tuple[Tensor, Tensor]:
    """Both gradients in the type of the scores; zeros where nothing was added, empty for a frozen side."""
    return (
        of_input(sides.dq, sides.queries, sides.wanted.queries),
        of_input(sides.dc, sides.candidates, sides.wanted.candidates),
    )


def of_input(gradient: Tensor | None, like: Float[Tensor, "n d"], wanted: bool) -> Tensor:
    """What was added up, or that nothing was."""
    if not wanted:
        return like.new_empty(0, dtype=score_dtype(like))
    if gradient is None:
        return like.new_zeros(like.shape, dtype=score_dtype(like))
    return gradient


def project_out_length(
    gradient: Float[Tensor, "n d"],
    x: Float[Tensor, "n d"],
    inverse: Float[Tensor, "n"],
    scaled: bool = True,
) -> None:
    """Turn the gradient of normalised rows into that of the rows themselves, in place.

    ``x`` are the normalised rows, or the rows themselves where they are not ``scaled``.
    """
    for rows in chunks(len(x), ROWS_AT_ONCE):
        unit = x[rows] if scaled else x[rows] * inverse[rows, None]
        along = torch.linalg.vecdot(unit, gradient[rows])
        gradient[rows].addcmul_(unit, along[:, None], value=-1).mul_(inverse[rows, None])
