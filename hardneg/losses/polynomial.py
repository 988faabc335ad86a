"""Universal weighting: polynomials of the positive's and the hardest negative's score."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from hardneg.checks import check_number
from hardneg.losses.inputs import paired
from hardneg.losses.mining import Mined, Picked, mine, own_positive, pair_rounding
from hardneg.losses.terms import Direction, Output, check_reduction, finish
from hardneg.negatives import (
    Hardest,
    Negatives,
    RandomK,
    RankWindow,
    SemiHard,
    TopK,
    resolve_negatives,
)
from hardneg.ops.backends import carried_out, check_backend
from hardneg.ops.executor import Executor
from hardneg.similarities import Similarity, resolve_similarity

if TYPE_CHECKING:
    from jaxtyping import Bool, Float, Int

__all__ = ["PolynomialLoss", "polynomial_loss"]

ACCEPTED = (Hardest, SemiHard, TopK, RandomK, RankWindow)

Coefficients = tuple[float, ...]


def polynomial_loss(
    queries: Float[Tensor, "n d"],
    candidates: Float[Tensor, "m d"],
    *,
    margin: float = 0.2,
    positive: Coefficients = (0.5, -0.7, 0.2),
    negative: Coefficients = (0.03, -0.4, 0.9),
    negatives: Negatives | str = "hardest",
    similarity: Similarity | str = "cosine",
    query_ids: Int[Tensor, "n"] | None = None,
    candidate_ids: Int[Tensor, "m"] | None = None,
    positives: Bool[Tensor, "n m"] | None = None,
    ignore: Bool[Tensor, "n m"] | None = None,
    directions: str = "both",
    reduction: str = "mean",
    return_stats: bool = False,
    backend: str | Executor = "auto",
) -> Output:
    """Polynomials of the positive's score p and of the chosen negatives' scores h, in both directions.

    The term of an anchor is ``P(p) + sum over h of N(h)``, both cut off at 0, over the chosen negatives
    that violate the margin (``h + margin > p``); 0 where none does. Coefficients rise in degree: the
    default is ``0.5 - 0.7 p + 0.2 p^2`` and ``0.03 - 0.4 h + 0.9 h^2``.

    Args:
        queries, candidates, similarity, query_ids, candidate_ids, positives, ignore, directions,
            return_stats, backend: as in ``contrastive_loss``.
        margin: which negatives count, at least 0.
        positive, negative: coefficients of the polynomials, constant first.
        negatives: ``"hardest"`` (the paper), ``"semihard"``, ``TopK(k)``, ``RandomK(k)`` or ``RankWindow``.
        reduction: ``"mean"``, ``"sum"``, ``"mean_active"`` (over violating triplets) or ``"none"``.

    Raises:
        ValueError, TypeError: naming the argument, what was expected, and what came.

    Source: Wei et al., "Universal Weighting Metric Learning for Cross-Modal Matching", CVPR 2020.

    Example:
        >>> polynomial_loss(torch.randn(8, 4), torch.randn(8, 4)).shape
        torch.Size([])
    """
    margin = check_number("margin", margin, at_least=0)
    positive = check_coefficients("positive", positive)
    negative = check_coefficients("negative", negative)
    check_reduction(reduction, directions)
    strategy = resolve_negatives(negatives, "polynomial_loss", ACCEPTED)
    comparison = paired(
        queries, candidates, similarity, query_ids, candidate_ids, positives, ignore
    )
    executor, comparison = carried_out(backend, comparison)
    selection = strategy.selection(queries.shape[1])
    assert selection is not None
    own, partner = torch.arange(queries.shape[0], device=queries.device), own_positive(comparison)
    mined = mine(
        executor,
        comparison,
        partner,
        strategy,
        selection,
        queries=directions != "candidates",
        candidates=directions != "queries",
        statistics=return_stats,
    )

    rounding = pair_rounding(executor, comparison, own, partner, mined.positives)
    floor = rounding.above(mined.positives.detach() - margin)

    def terms_of(picked: Picked | None) -> Direction | None:
        if picked is None:
            return None
        return polynomial_terms(mined, picked, floor, positive, negative)

    terms = terms_of(mined.queries), terms_of(mined.candidates)
    return finish(executor, comparison, terms, reduction, return_stats=return_stats)


def polynomial_terms(
    mined: Mined,
    picked: Picked,
    floor: Float[Tensor, "n"],
    positive: Coefficients,
    negative: Coefficients,
) -> Direction:
    """The terms of one direction; the negatives above the floor of their anchor violate the margin."""
    p, valid = mined.positives, mined.has & picked.there[:, 0]
    violating = picked.there & (picked.scores.detach() > floor[:, None])
    of_negatives = torch.where(violating, evaluate(negative, picked.scores), 0.0).sum(1)
    some = violating.any(1)
    values = torch.where(some, evaluate(positive, p) + of_negatives, 0.0)
    active, considered = violating.sum(1), picked.there.sum(1)
    return Direction(values, valid, active, considered, p, picked.hardest)


def evaluate(coefficients: Coefficients, x: Tensor) -> Tensor:
    """The polynomial at x, not below 0."""
    total = torch.zeros_like(x)
    for coefficient in reversed(coefficients):
        total = total * x + coefficient
    return total.relu()


def check_coefficients(argument: str, coefficients: Coefficients) -> Coefficients:
    """A non-empty tuple of numbers."""
    if not isinstance(coefficients, tuple) or not coefficients:
        raise TypeError(
            f"{argument} is {coefficients!r}: expected a tuple of numbers, constant first"
        )
    return tuple(check_number(argument, coefficient) for coefficient in coefficients)


class PolynomialLoss(nn.Module):
    """Universal weighting on pairs; ``loss(images, captions)``.

    Choices are those of ``hardneg.functional.polynomial_loss``.

    Example:
        >>> loss = PolynomialLoss()
        >>> value = loss(torch.randn(8, 4), torch.randn(8, 4))
    """

    def __init__(
        self,
        margin: float = 0.2,
        positive: Coefficients = (0.5, -0.7, 0.2),
        negative: Coefficients = (0.03, -0.4, 0.9),
        negatives: Negatives | str = "hardest",
        similarity: Similarity | str = "cosine",
        *,
        directions: str = "both",
        reduction: str = "mean",
        backend: str | Executor = "auto",
    ) -> None:
        super().__init__()
        margin = check_number("margin", margin, at_least=0)
        positive = check_coefficients("positive", positive)
        negative = check_coefficients("negative", negative)
        check_reduction(reduction, directions)
        self.margin = margin
        self.positive = positive
        self.negative = negative
        self.negatives = resolve_negatives(negatives, type(self).__name__, ACCEPTED)
        self.similarity = resolve_similarity(similarity)
        self.directions, self.reduction, self.backend = directions, reduction, backend
        check_backend(backend, self.similarity)

    def forward(
        self,
        queries: Float[Tensor, "n d"],
        candidates: Float[Tensor, "m d"],
        *,
        query_ids: Int[Tensor, "n"] | None = None,
        candidate_ids: Int[Tensor, "m"] | None = None,
        positives: Bool[Tensor, "n m"] | None = None,
        ignore: Bool[Tensor, "n m"] | None = None,
        negatives: Negatives | str | None = None,
        return_stats: bool = False,
    ) -> Output:
        """See ``hardneg.functional.polynomial_loss``."""
        return polynomial_loss(
            queries,
            candidates,
            margin=self.margin,
            positive=self.positive,
            negative=self.negative,
            negatives=self.negatives if negatives is None else negatives,
            similarity=self.similarity,
            query_ids=query_ids,
            candidate_ids=candidate_ids,
            positives=positives,
            ignore=ignore,
            directions=self.directions,
            reduction=self.reduction,
            return_stats=return_stats,
            backend=self.backend,
        )

    def extra_repr(self) -> str:
        """The choices."""
        return (
            f"margin={self.margin}, positive={self.positive}, negative={self.negative}, "
            f"negatives={self.negatives}, similarity={self.similarity}, reduction={self.reduction!r}"
        )
