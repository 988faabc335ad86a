"""``histogram``: counts of scores between edges."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from hardneg.checks import check_count

if TYPE_CHECKING:
    from jaxtyping import Float, Int

__all__ = ["Histogram", "histogram"]


@dataclass(frozen=True, eq=False, repr=False)
class Histogram:
    """Counts of scores, on the CPU.

    Attributes:
        edges: b + 1 rising bounds, of which bin i lies between i and i + 1; the last bin holds its upper bound too.
        counts: b numbers.
    """

    edges: Float[Tensor, "b+1"]
    counts: Int[Tensor, "b"]

    def __repr__(self) -> str:
        low, high = float(self.edges[0]), float(self.edges[-1])
        return f"Histogram({int(self.counts.sum())} scores from {low:.3g} to {high:.3g})"


def histogram(
    scores: Float[Tensor, "..."], bins: int = 50, bounds: tuple[float, float] | None = None
) -> Histogram:
    """Count scores in bins of equal width.

    Args:
        scores: any shape; those that are NaN or infinite are left out.
        bins: how many.
        bounds: the first and the last edge; scores beyond count in the outermost bins. None: the lowest and the
            highest score.

    Raises:
        ValueError: for less than one bin.

    Example:
        >>> histogram(torch.tensor([0.1, 0.2, 0.9, 1.0]), bins=2, bounds=(0, 1)).counts
        tensor([2, 2])
    """
    check_count("bins", bins)
    known = scores.detach().flatten().cpu().double()
    known = known[known.isfinite()]
    low, high = bounds_of(known) if bounds is None else bounds
    edges = torch.linspace(low, high, bins + 1, dtype=torch.float64)
    counts = torch.histogram(known.clamp(low, high), edges).hist.long()
    return Histogram(edges, counts)


def bounds_of(known: Float[Tensor, "n"]) -> tuple[float, float]:
    """The lowest and the highest score, apart where there is one value only; (0, 1) without any."""
    if not len(known):
        return 0.0, 1.0
    low, high = float(known.min()), float(known.max())
    if low < high:
        return low, high
    half = max(abs(low), 1.0) / 2
    return low - half, high + half
