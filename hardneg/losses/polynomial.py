"""Universal weighting on pairs: polynomials of the scores."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor

from hardneg.checks import check_number
from hardneg.losses.base import BackendName, Directions, PairLoss, Reduction
from hardneg.losses.call import Call
from hardneg.losses.terms.mining import Mined, mine
from hardneg.losses.terms.reduction import Both, Terms
from hardneg.losses.terms.windows import pair_rounding
from hardneg.negatives import Negatives, NegativesName
from hardneg.ops.scores import Backend
from hardneg.similarities import Similarity, SimilarityName

__all__ = ["PolynomialLoss"]

Coefficients = tuple[float, ...]


class PolynomialLoss(PairLoss):
    """Polynomials of the positive's score p and of the chosen negatives' scores h, in both directions.

    The term of an anchor is ``P(p) + sum over h of N(h)``, both cut off at 0, over the chosen negatives
    that violate the margin (``h + margin > p``); 0 where none does. Coefficients rise in degree: the
    default is ``0.5 - 0.7 p + 0.2 p^2`` and ``0.03 - 0.4 h + 0.9 h^2``.

    Args:
        margin: which negatives count, at least 0.
        positive, negative: coefficients of the polynomials, constant first.
        negatives: a selection, by name or object: ``"hardest"`` (the paper), ``"semihard"``, ``TopK(k)`` ...
        similarity, directions, backend: as in ``ContrastiveLoss``.
        reduction: ``"mean"``, ``"sum"``, ``"mean_active"`` (over violating triplets) or ``"none"``.

    Source: Wei et al., "Universal Weighting Metric Learning for Cross-Modal Matching", CVPR 2020.

    Example:
        >>> loss = PolynomialLoss()
        >>> value = loss(torch.randn(8, 4), torch.randn(8, 4))
    """

    takes_all: ClassVar[bool] = False

    def __init__(
        self,
        margin: float = 0.2,
        positive: Coefficients = (0.5, -0.7, 0.2),
        negative: Coefficients = (0.03, -0.4, 0.9),
        negatives: Negatives | NegativesName = "hardest",
        similarity: Similarity | SimilarityName = "cosine",
        *,
        directions: Directions = "both",
        reduction: Reduction = "mean",
        backend: BackendName | Backend = "auto",
    ) -> None:
        super().__init__(negatives, similarity, directions, reduction, backend)
        self.margin = check_number("margin", margin, at_least=0)
        self.positive = check_coefficients("positive", positive)
        self.negative = check_coefficients("negative", negative)

    def terms(self, call: Call) -> Both:
        """Both polynomials of every anchor."""
        positive, selection = call.own_positive(), call.selection
        assert selection is not None
        p, queries, candidates = mine(call, positive, selection)
        has = positive >= 0
        rounding = pair_rounding(call.scores, call.scores.row_numbers(), positive, p)
        floor = rounding.above(p.detach() - self.margin)
        return self.of_mined(queries, p, has, floor), self.of_mined(candidates, p, has, floor)

    def of_mined(self, mined: Mined | None, p: Tensor, has: Tensor, floor: Tensor) -> Terms | None:
        """The terms of one direction; negatives above the floor of their anchor violate the margin."""
        if mined is None:
            return None
        violating = mined.there & (mined.scores.detach() > floor[:, None])
        of_negatives = torch.where(violating, evaluate(self.negative, mined.scores), 0.0).sum(1)
        values = evaluate(self.positive, p) + of_negatives
        values = torch.where(violating.any(1), values, 0.0)
        valid, considered = has & mined.there[:, 0], mined.there.sum(1)
        return Terms(values, valid, violating.sum(1), considered, p, mined.hardest)


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
