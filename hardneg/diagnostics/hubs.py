"""``hubness``: whether few candidates are the nearest neighbours of many queries."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from hardneg.checks import check_count
from hardneg.mining import mine
from hardneg.negatives import TopK
from hardneg.ops.scores import Backend
from hardneg.similarities import Similarity, SimilarityName

if TYPE_CHECKING:
    from jaxtyping import Float, Int

__all__ = ["Hubness", "hubness"]


@dataclass(frozen=True, eq=False, repr=False)
class Hubness:
    """How often candidates are among the k nearest of a query.

    Attributes:
        occurrences: N_k of every candidate: how many queries have it among their k nearest.
        k: how many neighbours of each query were counted.
        skewness: third standardised moment of N_k: 0 for a symmetric distribution, above 1 where hubs stand out; 0
            where all are equal.
        antihub_share: share of the candidates that are near to no query, N_k = 0.
    """

    occurrences: Int[Tensor, "m"]
    k: int
    skewness: float
    antihub_share: float

    def __repr__(self) -> str:
        return (
            f"Hubness(k={self.k}, skewness={self.skewness:.2f}, antihub_share={self.antihub_share:.2f}, "
            f"largest={self.largest})"
        )

    @property
    def largest(self) -> int:
        """How many queries have the largest hub among their k nearest."""
        return int(self.occurrences.max())

    def hubs(self, count: int = 10) -> Int[Tensor, "count"]:
        """Rows of the candidates with the most occurrences, the most first; as many as there are."""
        order = self.occurrences.argsort(descending=True, stable=True)
        return order[: check_count("count", count)]


@torch.no_grad()
def hubness(
    queries: Float[Tensor, "n d"],
    candidates: Float[Tensor, "m d"] | None = None,
    k: int = 10,
    *,
    similarity: Similarity | SimilarityName = "cosine",
    backend: str | Backend = "auto",
) -> Hubness:
    """Count k-occurrences, by the selection of the losses: in O((n + m) d + n k) memory.

    Args:
        queries: n x d.
        candidates: m x d; None: one set, whose rows are no neighbours of themselves.
        k: neighbours of each query; at most as many as there are.
        similarity: by name, object or callable.
        backend: as of the losses.

    Raises:
        ValueError, TypeError: naming the argument, what was expected, and what came.

    Source: Radovanović, Nanopoulos and Ivanović, "Hubs in Space", JMLR 11, 2010, section 2.1.

    Example:
        >>> found = hubness(torch.randn(200, 16), torch.randn(100, 16), k=5)
        >>> int(found.occurrences.sum())
        1000
    """
    one = candidates is None
    other = queries if candidates is None else candidates
    m = len(other)
    k = max(1, min(check_count("k", k), m - int(one)))
    found = mine(queries, other, TopK(k), similarity, same_set=one, backend=backend).indices
    # places without a neighbour are counted behind the last candidate
    places = torch.where(found >= 0, found, m).flatten()
    counts = torch.zeros(m + 1, dtype=torch.long, device=queries.device)
    counts = counts.scatter_add_(0, places, torch.ones_like(places))[:m].cpu()
    return Hubness(counts, k, skewness_of(counts), float((counts == 0).double().mean()))


def skewness_of(counts: Int[Tensor, "m"]) -> float:
    """Third standardised moment."""
    away = counts.double() - counts.double().mean()
    deviation = float(away.square().mean().sqrt())
    return float(away.pow(3).mean()) / deviation**3 if deviation else 0.0
