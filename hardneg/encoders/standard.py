"""Features scaled by what is known of the training set."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from jaxtyping import Float

__all__ = ["StandardScaler"]

SMALLEST = 1e-3
"""Of a standard deviation, as a share of the largest one: a feature that hardly moves stays small."""


class StandardScaler(nn.Module):
    """``(x - mean) / deviation`` with the numbers of the training set, which the state holds.

    Features of a network with rectifiers are all positive, so their cosines are nearly 1 whatever they show;
    less their mean they are not.

    Args:
        width: of the features.
        root: take signed square roots before, which evens out features with a few large numbers.
    """

    mean: Tensor
    deviation: Tensor

    def __init__(self, width: int, root: bool = False) -> None:
        super().__init__()
        self.root = root
        self.register_buffer("mean", torch.zeros(width))
        self.register_buffer("deviation", torch.ones(width))

    @torch.no_grad()
    def fit(self, blocks: Iterable[Float[Tensor, "... f"]]) -> StandardScaler:
        """Take the mean and the deviation of all rows, read a block at a time; returns itself."""
        count, first = 0, torch.zeros(len(self.mean), dtype=torch.float64)
        second = torch.zeros_like(first)
        for block in blocks:
            x = self.rooted(block.reshape(-1, block.shape[-1])).double()
            count, first, second = count + len(x), first + x.sum(0), second + x.square().sum(0)
        if not count:
            raise ValueError("there are no rows to take a mean of")
        mean = first / count
        deviation = (second / count - mean.square()).clamp(min=0).sqrt()
        self.mean.copy_(mean)
        self.deviation.copy_(deviation.clamp(min=float(deviation.max()) * SMALLEST))
        if not bool(self.deviation.all()):
            self.deviation.fill_(1.0)
        return self

    def forward(self, features: Float[Tensor, "... f"]) -> Float[Tensor, "... f"]:
        """Features to features of the same shape."""
        return (self.rooted(features) - self.mean) / self.deviation

    def rooted(self, features: Float[Tensor, "... f"]) -> Float[Tensor, "... f"]:
        """The square roots, where they are asked for."""
        return features.sign() * features.abs().sqrt() if self.root else features
