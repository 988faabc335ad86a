"""How close a query and a candidate are. Scores always rise with closeness: distances are negated here, once."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

import torch
from torch import Tensor
from torch.autograd import forward_ad

from hardneg.checks import check_scores, resolve_name

if TYPE_CHECKING:
    from jaxtyping import Float

__all__ = [
    "Cosine",
    "Dot",
    "Euclidean",
    "Order",
    "Similarity",
    "SimilarityName",
    "SquaredEuclidean",
    "resolve_similarity",
]


def upcast(x: Tensor) -> Tensor:
    """The embeddings in the precision in which scores are computed: float64 stays, the rest is float32."""
    dtype = score_dtype(x)
    return x if x.dtype == dtype else x.to(dtype)


def score_dtype(x: Tensor) -> torch.dtype:
    """The type of scores, sums, thresholds and gradients' sums for embeddings of this type."""
    return torch.float64 if x.dtype == torch.float64 else torch.float32


def is_distance(similarity: Similarity) -> bool:
    """Whether its scores are negated distances."""
    return bool(getattr(similarity, "distance", False))


def is_spherical(similarity: Similarity) -> bool:
    """Whether its scores tell the distance of unit vectors."""
    return isinstance(similarity, Cosine | Euclidean | SquaredEuclidean)


def scores_of(
    similarity: Callable[[Tensor, Tensor], Tensor], queries: Tensor, candidates: Tensor
) -> Float[Tensor, "n m"]:
    """``similarity(queries, candidates)``, checked, in the type of the embeddings even under autocast.

    Raises:
        TypeError, ValueError: for what is no n x m floating-point tensor.
    """
    with torch.autocast(queries.device.type, enabled=False):
        found = similarity(queries, candidates)
    return check_scores(found, queries.shape[0], candidates.shape[0])


def unit(x: Float[Tensor, "n d"]) -> Float[Tensor, "n d"]:
    """Rows divided by their L2 norm; a zero row stays zero and passes no gradient.

    Dividing by the largest entry first keeps the squares of huge and tiny rows in range.
    """
    largest = x.detach().abs().amax(dim=-1, keepdim=True)
    nonzero = largest > 0
    scaled = x / torch.where(nonzero, largest, 1.0)
    norm = torch.linalg.vector_norm(torch.where(nonzero, scaled, 1.0), dim=-1, keepdim=True)
    return torch.where(nonzero, scaled / norm, 0.0)


def safe_sqrt(x: Tensor) -> Tensor:
    """Square root with value 0 and gradient 0 at 0."""
    positive = x > 0
    return torch.where(positive, torch.where(positive, x, 1.0).sqrt(), 0.0)


@dataclass(frozen=True)
class Cosine:
    """Cosine of the angle, in [-1, 1]. A zero vector scores 0 with everything."""

    code: ClassVar[str] = "cosine"

    def __call__(self, queries: Tensor, candidates: Tensor) -> Float[Tensor, "n m"]:
        """``normalize(queries) @ normalize(candidates).T``."""
        return unit(upcast(queries)) @ unit(upcast(candidates)).T

    def pairs(self, queries: Tensor, candidates: Tensor) -> Float[Tensor, "..."]:
        """Scores of row i of one with row i of the other."""
        return (unit(upcast(queries)) * unit(upcast(candidates))).sum(-1)

    def swapped(self) -> Cosine:
        """The similarity with queries and candidates exchanged."""
        return self


@dataclass(frozen=True)
class Dot:
    """Inner product, for embeddings that are already normalised or whose length means something."""

    code: ClassVar[str] = "dot"

    def __call__(self, queries: Tensor, candidates: Tensor) -> Float[Tensor, "n m"]:
        """``queries @ candidates.T``."""
        return upcast(queries) @ upcast(candidates).T

    def pairs(self, queries: Tensor, candidates: Tensor) -> Float[Tensor, "..."]:
        """Scores of row i of one with row i of the other."""
        return (upcast(queries) * upcast(candidates)).sum(-1)

    def swapped(self) -> Dot:
        """The similarity with queries and candidates exchanged."""
        return self


@dataclass(frozen=True)
class Euclidean:
    """Negated Euclidean distance; the gradient of two equal points is 0."""

    code: ClassVar[str] = "euclidean"
    distance: ClassVar[bool] = True

    def __call__(self, queries: Tensor, candidates: Tensor) -> Float[Tensor, "n m"]:
        """``-torch.cdist(queries, candidates)``."""
        if forward_ad._current_level >= 0:  # cdist has no forward-mode derivative
            return self.pairs(queries[:, None], candidates[None])
        return -torch.cdist(
            upcast(queries),
            upcast(candidates),
            compute_mode="donot_use_mm_for_euclid_dist",
        )

    def pairs(self, queries: Tensor, candidates: Tensor) -> Float[Tensor, "..."]:
        """Scores of row i of one with row i of the other."""
        return -safe_sqrt((upcast(queries) - upcast(candidates)).square().sum(-1))

    def swapped(self) -> Euclidean:
        """The similarity with queries and candidates exchanged."""
        return self


@dataclass(frozen=True)
class SquaredEuclidean:
    """Negated squared Euclidean distance."""

    code: ClassVar[str] = "squared_euclidean"
    distance: ClassVar[bool] = True

    def __call__(self, queries: Tensor, candidates: Tensor) -> Float[Tensor, "n m"]:
        """``-torch.cdist(queries, candidates) ** 2``."""
        return -Euclidean()(queries, candidates).square()

    def pairs(self, queries: Tensor, candidates: Tensor) -> Float[Tensor, "..."]:
        """Scores of row i of one with row i of the other."""
        return -(upcast(queries) - upcast(candidates)).square().sum(-1)

    def swapped(self) -> SquaredEuclidean:
        """The similarity with queries and candidates exchanged."""
        return self


@dataclass(frozen=True)
class Order:
    """Negated order violation ``-|| max(0, candidate - query) ||_2`` (Vendrov et al., ICLR 2016).

    Queries are the specific side (images), candidates the general one (captions): a caption may
    not exceed its image in any coordinate. ``Order(general="queries")`` scores captions as queries.
    """

    distance: ClassVar[bool] = True

    general: str = "candidates"

    @property
    def code(self) -> str:
        """The name by which the compiled operators know it."""
        return "order" if self.general == "candidates" else "order_of_general_queries"

    def __post_init__(self) -> None:
        resolve_name("general", self.general, {"candidates": 0, "queries": 0})

    def violation(self, queries: Tensor, candidates: Tensor) -> Tensor:
        """The excess of the general side over the specific one, by coordinate."""
        excess = upcast(candidates) - upcast(queries)
        return (excess if self.general == "candidates" else -excess).clamp(min=0)

    def __call__(self, queries: Tensor, candidates: Tensor) -> Float[Tensor, "n m"]:
        """``-(candidates[None] - queries[:, None]).clamp(min=0).norm(dim=-1)``."""
        return self.pairs(queries[:, None], candidates[None])

    def pairs(self, queries: Tensor, candidates: Tensor) -> Float[Tensor, "..."]:
        """Scores of row i of one with row i of the other."""
        return -safe_sqrt(self.violation(queries, candidates).square().sum(-1))

    def swapped(self) -> Order:
        """The similarity with queries and candidates exchanged."""
        return Order("queries" if self.general == "candidates" else "candidates")


@dataclass(frozen=True)
class Given:
    """Scores that the caller has computed: the queries are the rows of their matrix, the candidates its columns.

    The queries hold the matrix and take its gradient. The candidates are its transpose, detached, so that
    both sides have their numbers of rows.
    """

    code: ClassVar[str] = "given"

    def __call__(self, queries: Tensor, candidates: Tensor) -> Float[Tensor, "n m"]:
        """The matrix."""
        return upcast(queries)

    def swapped(self) -> Given:
        """The similarity with queries and candidates exchanged."""
        return self


Similarity = (
    Cosine | Dot | Euclidean | SquaredEuclidean | Order | Callable[[Tensor, Tensor], Tensor]
)

SimilarityName = Literal["cosine", "dot", "euclidean", "squared_euclidean", "order"]

BY_NAME: dict[str, Similarity] = {
    "cosine": Cosine(),
    "dot": Dot(),
    "euclidean": Euclidean(),
    "squared_euclidean": SquaredEuclidean(),
    "order": Order(),
}


BY_CODE: dict[str, Similarity] = {
    **BY_NAME,
    "order_of_general_queries": Order("queries"),
    "given": Given(),
}


def is_builtin(similarity: Similarity) -> bool:
    """Whether it is one of the objects above, which have tiled forms; a subclass is a callable like any other."""
    return type(similarity) in (Cosine, Dot, Euclidean, SquaredEuclidean, Order, Given)


def resolve_similarity(similarity: Similarity | str) -> Similarity:
    """A similarity from its name, from one of the objects above, or from a callable.

    Raises:
        ValueError: for an unknown name.
        TypeError: for anything that cannot be called.
    """
    if isinstance(similarity, str):
        return resolve_name("similarity", similarity, BY_NAME)
    if not callable(similarity) or isinstance(similarity, type):
        raise TypeError(
            f"similarity is {similarity!r}: expected one of {sorted(BY_NAME)}, a similarity object "
            "such as Cosine(), or a callable (n x d, m x d) -> n x m"
        )
    return similarity
