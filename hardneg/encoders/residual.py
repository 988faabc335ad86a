"""Residual blocks behind a projection."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import Tensor, nn

if TYPE_CHECKING:
    from jaxtyping import Float

__all__ = ["ResidualMLP"]


class ResidualMLP(nn.Sequential):
    """``x + linear(drop(gelu(linear(norm(x)))))``, several times over.

    Args:
        width: of the input and the output.
        hidden_dim: of the layer between.
        blocks: how many; 0 is the identity.
        drop: the chance that a training step drops a number of the layer between.
    """

    def __init__(
        self, width: int, hidden_dim: int = 1024, blocks: int = 1, drop: float = 0.0
    ) -> None:
        super().__init__(*(ResidualBlock(width, hidden_dim, drop) for _ in range(blocks)))


class ResidualBlock(nn.Module):
    """One of them."""

    def __init__(self, width: int, hidden_dim: int, drop: float) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.inwards, self.outwards = nn.Linear(width, hidden_dim), nn.Linear(hidden_dim, width)
        self.drop = nn.Dropout(drop)

    def forward(self, x: Float[Tensor, "n d"]) -> Float[Tensor, "n d"]:
        """``n x d`` to ``n x d``."""
        hidden = nn.functional.gelu(self.inwards(self.norm(x)))
        found: Tensor = x + self.outwards(self.drop(hidden))
        return found
