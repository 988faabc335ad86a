"""The table of forms: the functions by which kernels compute each penalty, energy, similarity and ranking.

What has no entry has no kernel: ``why_no_form`` says so, and it runs tiled.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from torch import Tensor

from hardneg.ops.energies import CircleNegative, CirclePositive, Linear
from hardneg.ops.triton import elementwise_functions, ranking, similarity_functions
from hardneg.ops.triton.arguments import constant
from hardneg.penalties import Hinge, Identity, Logistic, SquaredHinge
from hardneg.similarities import Cosine, Dot, Euclidean, Order, Similarity, SquaredEuclidean

__all__ = [
    "ENERGIES",
    "PENALTIES",
    "RANKINGS",
    "SIMILARITIES",
    "Form",
    "SimilarityForm",
    "why_no_form",
]


class Form(NamedTuple):
    """Value and slope of a penalty or an energy.

    ``COUNTS``: the slope is 1 where the value is above 0, and else 0, so that its sum is a count.
    """

    value: Any
    slope: Any
    COUNTS: Any = constant(False)


@dataclass(frozen=True)
class Bounded:
    """A form, and a bound on its slope.

    Attributes:
        bound: of a penalty from the largest argument, None for 1; of an energy from itself and the largest score.
    """

    form: Form
    bound: Callable[..., Tensor] | None = None


class SimilarityForm(NamedTuple):
    """Functions of a similarity: see ``similarity_functions``.

    Attributes:
        sums: of a tile, from its products.
        length: of a sum, the score.
        direction: what pulls a query along each coordinate.
        pull: the weight of ``direction``, from the weight of the score.
        distance: of points on the sphere, from the score; None where that is not known.
        doubled_term: of a coordinate, in a tile without products.
        NORMALISED: embeddings are divided by their lengths.
        DISTANCE: a sum is of squares of ``direction``, not of products.
    """

    sums: Any
    length: Any
    direction: Any
    pull: Any
    distance: Any
    NORMALISED: Any
    DISTANCE: Any
    doubled_term: Any = None


def circle_bound(energy: CircleNegative | CirclePositive, score: Tensor) -> Tensor:
    """Of a slope ``gamma * max(0, 1 + margin +- score)``."""
    return abs(energy.gamma) * (score + 1 + abs(energy.margin))


def linear_bound(energy: Linear, score: Tensor) -> Tensor:
    """Of a slope that is constant."""
    return score.new_full((), abs(energy.factor))


e, s = elementwise_functions, similarity_functions

PENALTIES: Mapping[type, Bounded] = {
    Hinge: Bounded(Form(e.hinge, e.hinge_slope, constant(True))),
    SquaredHinge: Bounded(Form(e.squared_hinge, e.squared_hinge_slope), lambda x: 2 * x),
    Logistic: Bounded(Form(e.softplus, e.sigmoid)),
    Identity: Bounded(Form(e.identity, e.identity_slope)),
}

ENERGIES: Mapping[type, Bounded] = {
    Linear: Bounded(Form(e.linear, e.linear_slope), linear_bound),
    CircleNegative: Bounded(Form(e.circle_negative, e.circle_negative_slope), circle_bound),
    CirclePositive: Bounded(Form(e.circle_positive, e.circle_positive_slope), circle_bound),
}

YES, NO = constant(True), constant(False)

SIMILARITIES: Mapping[Similarity, SimilarityForm] = {
    Cosine(): SimilarityForm(s.normalised, s.same, s.other, s.unchanged, s.chord, YES, NO),
    Dot(): SimilarityForm(s.summed, s.same, s.other, s.unchanged, None, NO, NO),
    Euclidean(): SimilarityForm(
        s.squared_distance, s.negated_root, s.difference, s.over_distance, s.negated, NO, YES
    ),
    SquaredEuclidean(): SimilarityForm(
        s.squared_distance, s.negated, s.difference, s.doubled, s.root_of_negated, NO, YES
    ),
    Order(): SimilarityForm(
        s.halved, s.negated_root, s.excess, s.over_distance, None, NO, YES, s.doubled_excess
    ),
    Order("queries"): SimilarityForm(
        s.halved, s.negated_root, s.lack, s.over_distance, None, NO, YES, s.doubled_lack
    ),
}
"""By value, since ``Order`` has two."""

RANKINGS: Mapping[str, Any] = {
    "highest": ranking.highest,
    "lowest": ranking.lowest,
    "random": ranking.random,
    "distance_weighted": ranking.distance_weighted,
}


KNOWN = frozenset(type(similarity) for similarity in SIMILARITIES)


def why_no_form(similarity: Any, request: Any) -> str | None:
    """Why kernels cannot compute a request: what they have no function for; None where they can."""
    if type(similarity) not in KNOWN:
        return f"has kernels for the built-in similarities only, not for {similarity!r}"
    penalty, energy = getattr(request, "penalty", None), getattr(request, "energy", None)
    selection = getattr(request, "selection", None)
    if penalty is not None and type(penalty) not in PENALTIES:
        return f"has kernels for the built-in penalties only, not for {penalty!r}"
    if energy is not None and type(energy) not in ENERGIES:
        return f"has kernels for the built-in energies only, not for {energy!r}"
    if selection is not None and selection.order not in RANKINGS:
        return f"has no kernel that ranks candidates by {selection.order!r}"
    return None
