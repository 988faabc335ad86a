"""An ensemble of encoders that is one encoder."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, cast

import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from jaxtyping import Float

__all__ = ["Members"]


class Members(nn.Module):
    """Several encoders of the same inputs, their embeddings side by side.

    ``cat([one(*inputs) for one in encoders], 1) / sqrt(len(encoders))``: the inner product of two such embeddings is
    the mean of the members' scores, and where every member normalises, so does this. ``Members.apart`` gives the
    members' own embeddings again, for a loss of each.

    Args:
        encoders: modules whose outputs are ``n x d``, with the attribute ``embed_dim`` that says d.

    Raises:
        ValueError: for no encoders.

    Example:
        >>> from hardneg.encoders import FeatureEncoder
        >>> encoder = Members([FeatureEncoder(6, 4), FeatureEncoder(6, 4)])
        >>> encoder(torch.rand(3, 6)).shape, encoder.embed_dim
        (torch.Size([3, 8]), 8)
    """

    def __init__(self, encoders: Sequence[nn.Module]) -> None:
        super().__init__()
        if not encoders:
            raise ValueError("encoders is empty: expected at least one")
        self.encoders = nn.ModuleList(encoders)
        self.embed_dim = sum(cast("int", one.embed_dim) for one in encoders)

    def forward(self, *inputs: Tensor) -> Float[Tensor, "n d"]:
        """What every member makes of the same inputs."""
        together: Tensor = torch.cat([one(*inputs) for one in self.encoders], dim=1)
        return together.div(len(self.encoders) ** 0.5)

    @staticmethod
    def apart(embedded: Float[Tensor, "n d"], members: int) -> list[Float[Tensor, "n e"]]:
        """The embeddings of so many members of one width, from those of all together."""
        if embedded.shape[1] % members:
            raise ValueError(
                f"embeddings are {embedded.shape[1]} wide: expected a multiple of {members} members"
            )
        return [one * members**0.5 for one in embedded.chunk(members, dim=1)]
