"""What mining found: detached numbers on the embeddings' device, computed without a host sync."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from hardneg.ops.precision import has_float64
from hardneg.similarities import upcast

if TYPE_CHECKING:
    from jaxtyping import Bool, Float, Int

__all__ = ["MiningStatistics"]

COLLAPSED_BELOW = 1e-4


@dataclass(frozen=True, eq=False)
class MiningStatistics:
    """Statistics of one call of a loss, each a scalar tensor; reading one (``float``) synchronises.

    The share and the means are NaN, as the loss is, where an embedding is NaN or infinite.

    Attributes:
        active_fraction: share of the (anchor, positive, negative) terms with a value above 0.
        positive_mean: mean score of the positives.
        hardest_negative_mean: mean over anchors of the highest score among their negatives.
        gap: ``positive_mean - hardest_negative_mean``; below 0 the average hardest negative wins.
        masked_count: pairs left out as related or ignored, neither positive nor negative.
        collapsed: the embeddings of either side have become one point: their variance (summed over
            coordinates) is below 1e-4 of their mean squared length.
    """

    active_fraction: Float[Tensor, ""]
    positive_mean: Float[Tensor, ""]
    hardest_negative_mean: Float[Tensor, ""]
    gap: Float[Tensor, ""]
    masked_count: Int[Tensor, ""]
    collapsed: Bool[Tensor, ""]

    def as_dict(self) -> dict[str, float]:
        """Plain numbers, for a logger. Synchronises, once for all of them."""
        names = [f.name for f in fields(self)]
        # a count may be beyond what float32 holds
        dtype = torch.float64 if has_float64(self.gap.device) else torch.float32
        numbers = torch.stack([getattr(self, name).to(dtype) for name in names]).tolist()
        return dict(zip(names, numbers, strict=True))


def is_collapsed(*sets: Float[Tensor, "n d"]) -> Bool[Tensor, ""]:
    """Whether the rows of any of the sets are one point, but for rounding; a single row is not."""
    flags = []
    for x in sets:
        x = upcast(x.detach())
        largest = x.abs().amax().clamp(min=torch.finfo(x.dtype).tiny)
        x = x / largest
        spread = x.var(dim=0, correction=0).sum()
        flags.append((spread < COLLAPSED_BELOW * x.square().sum(1).mean()) & (len(x) > 1))
    return torch.stack(flags).any()
