"""The way into the joint space, shared by the towers: a projection, and how an embedding ends."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch.nn.functional as F
from torch import nn

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor

__all__ = ["finish", "projection"]


def projection(feature_dim: int, embed_dim: int) -> nn.Linear:
    """The linear layer, started as the paper's: Xavier-uniform weights, bias 0."""
    layer = nn.Linear(feature_dim, embed_dim)
    nn.init.xavier_uniform_(layer.weight)
    nn.init.zeros_(layer.bias)
    return layer


def finish(embedded: Float[Tensor, "n d"], normalize: bool, absolute: bool) -> Float[Tensor, "n d"]:
    """The end of every tower: an optional L2 norm, then an optional absolute value."""
    embedded = F.normalize(embedded, dim=-1) if normalize else embedded
    return embedded.abs() if absolute else embedded
