"""``OwnNegatives``: negatives that one query has for itself."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from jaxtyping import Bool, Float
    from torch import Tensor

__all__ = ["OwnNegatives"]


@dataclass(frozen=True, eq=False, repr=False)
class OwnNegatives:
    """Negatives of each query alone.

    Attributes:
        embeddings: k of them for each query.
        admitted: which of them count; None: all.
        alone: whether the candidates of the batch are no negatives beside them.
        exempt: whether bounds on the scores of negatives leave them out of account.
    """

    embeddings: Float[Tensor, "n k d"]
    admitted: Bool[Tensor, "n k"] | None = None
    alone: bool = False
    exempt: bool = False
