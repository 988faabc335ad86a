"""Regularisers of one set of embeddings: rows spread over the sphere, without their matrix of scores."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from hardneg.checks import check_embeddings
from hardneg.negatives import Selection
from hardneg.ops.backends import bind, check_backend
from hardneg.ops.comparison import Comparison, Relation
from hardneg.ops.requests import Search
from hardneg.ops.scores import Backend
from hardneg.similarities import Cosine, upcast

if TYPE_CHECKING:
    from jaxtyping import Float, Int

__all__ = ["KoLeo", "SpreadOut"]

SMALLEST = 1e-8
"""What a distance is raised by before its logarithm, as in DINOv2."""


class KoLeo(nn.Module):
    """Minus the mean logarithm of every row's distance from its nearest neighbour on the sphere.

    Dense equivalent::

        u = normalize(embeddings)
        nearest = (u @ u.T).fill_diagonal_(-1).argmax(1)
        loss = -((u - u[nearest]).norm(dim=1) + 1e-8).log().mean()

    A batch of one row gives 0. Equal rows have the value of their distance of 0 and no gradient from each other.

    Args:
        backend: how neighbours are found, as in the losses.

    Source: Sablayrolles et al., "Spreading vectors for similarity search", ICLR 2019; DINOv2.

    Example:
        >>> value = KoLeo()(torch.randn(32, 16))
    """

    def __init__(self, backend: str | Backend = "auto") -> None:
        super().__init__()
        check_backend(backend, Cosine())
        self.backend = backend

    def forward(self, embeddings: Float[Tensor, "n d"]) -> Float[Tensor, ""]:
        """Compute the regulariser, in float32 at least.

        Raises:
            ValueError, TypeError: naming the argument, what was expected, and what came.
        """
        check_embeddings("embeddings", embeddings)
        nearest, u = nearest_others(embeddings, self.backend), normalize(upcast(embeddings))
        there = nearest >= 0
        apart = u - u.index_select(0, nearest.clamp(min=0))
        squared = torch.where(there, apart.square().sum(1), 1.0)
        # the gradient of a root at 0 is infinite
        distance = torch.where(squared > 0, squared, 1.0).sqrt()
        distance = torch.where(squared > 0, distance, squared)
        terms = torch.where(there, (distance + SMALLEST).log(), 0.0)
        return -terms.mean()


@torch.no_grad()
def nearest_others(embeddings: Float[Tensor, "n d"], backend: str | Backend) -> Int[Tensor, "n"]:
    """The nearest other row of every row by cosine; -1 where there is none."""
    rows = torch.arange(embeddings.shape[0], device=embeddings.device)
    relation = Relation(rows, rows, same_set=True)
    scores = bind(backend, Comparison(embeddings, embeddings, Cosine(), relation))
    return scores.select(Search(Selection("highest", 1), columns=False)).rows[:, 0]


class SpreadOut(nn.Module):
    """Mean squared cosine of all pairs of different rows.

    It is that of uniform rows, 1 / d, at best on average. By the Gram matrix of coordinates (d x d), so that no n x n
    matrix is needed. Dense equivalent::

        u = normalize(embeddings)
        loss = (u @ u.T).fill_diagonal_(0).square().sum() / (n * (n - 1))

    Source: Zhang et al., "Learning Spread-out Local Feature Descriptors", ICCV 2017 (second moment).

    Example:
        >>> value = SpreadOut()(torch.randn(32, 16))
    """

    def forward(self, embeddings: Float[Tensor, "n d"]) -> Float[Tensor, ""]:
        """Compute the regulariser, in float32 at least; 0 for one row.

        Raises:
            ValueError, TypeError: naming the argument, what was expected, and what came.
        """
        check_embeddings("embeddings", embeddings)
        u, n = normalize(upcast(embeddings)), embeddings.shape[0]
        with torch.autocast(u.device.type, enabled=False):
            gram = u.T @ u
        own = u.square().sum(1).square().sum()
        share = 1 / (n * (n - 1)) if n > 1 else 0.0
        return (gram.square().sum() - own) * share
