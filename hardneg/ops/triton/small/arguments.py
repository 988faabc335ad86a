"""What the kernels of small batches take; see ``triton.arguments`` for how tuples are compiled."""

from __future__ import annotations

from typing import Any, NamedTuple

import triton.language as tl
from torch import Tensor

PLANES = 6
"""How many numbers belong to an anchor: planes 0 to 5 are the queries', 6 to 11 the candidates'."""

VALUE = tl.constexpr(0)
"""The term."""
COUNT = tl.constexpr(1)
"""By how much the term counts where the mean is taken: 1, 0 for an anchor without a term, or its active negatives."""
PULL = tl.constexpr(2)
"""The slope of the term by the positive's score, with the other sign."""
LARGEST = tl.constexpr(3)
"""What no slope by a negative's score exceeds."""
KEPT = tl.constexpr(4)
"""Which negative was chosen; of all negatives their threshold, or the log-sum-exp."""
SHARE = tl.constexpr(5)
"""The slope of the term by the scale."""

NUMBERS = 4
"""How many numbers belong to the loss, behind those of the anchors."""

OF_QUERIES = tl.constexpr(0)
"""By how much a query's slopes count in the matrix of derivatives."""
OF_CANDIDATES = tl.constexpr(1)
"""The same of a candidate's."""
FACTOR = tl.constexpr(2)
"""What the matrix of derivatives lacks; NaN where an embedding is not finite."""
BY_SCALE = tl.constexpr(3)
"""The derivative of the loss by the scale."""


FIRST_OF_CANDIDATES = tl.constexpr(PLANES)
FIRST_OF_LOSS = tl.constexpr(2 * PLANES)


class RowsOfSide(NamedTuple):
    """Embeddings of one side, and where what is made of them goes.

    Attributes:
        x, stride: the embeddings.
        copy: as they are multiplied.
        factors: 1 / length of the copies; None where that is 1.
        shrinks: copy / embedding, a number for every row; NaN where a row is not finite.
    """

    x: Tensor
    stride: int
    copy: Tensor | None
    factors: Tensor | None
    shrinks: Tensor


class Products(NamedTuple):
    """The matrix of products; scores are its numbers times the factors of their row and column, where there are any."""

    x: Tensor
    stride: int
    row_factors: Tensor | None
    column_factors: Tensor | None


class Bound(NamedTuple):
    """A ceiling over the positive's score p: ``p - steep * abs(p) + offset``."""

    steep: float
    offset: float


class Equation(NamedTuple):
    """The term of an anchor as functions.

    Attributes:
        reduce: ``chosen_term``, ``penalty_term`` or ``exponential_term``.
        weigh: the derivatives by all negatives; None of a chosen one, which is gathered.
        form: value and slope of a penalty.
        margin: added to every difference.
        factor: of every difference, where ``scale`` is None.
        scale: the same as a tensor.
        bound: of the negatives that are chosen.
        BOUNDED: whether there is one.
        FALLBACK: what is chosen where nothing is below the bound.
        ACTIVE: count terms above 0 in place of anchors.
        STEEP: slopes may exceed 1.
        LEARNED: the slope by the scale is wanted.
    """

    reduce: Any
    weigh: Any
    form: Any
    margin: float
    factor: float
    scale: Tensor | None
    bound: Bound
    BOUNDED: Any
    FALLBACK: Any
    ACTIVE: Any
    STEEP: Any
    LEARNED: Any


class Planes(NamedTuple):
    """What becomes of the terms.

    Attributes:
        x: numbers of the anchors, ``room`` a plane, and of the loss.
        room: for so many anchors.
        gain: what the matrix of derivatives is multiplied by.
        QUERIES, CANDIDATES: which sides are anchors.
    """

    x: Tensor
    room: int
    gain: float
    QUERIES: Any
    CANDIDATES: Any


class Anchors(NamedTuple):
    """Inside a kernel: a block of anchors.

    Attributes:
        numbers: theirs.
        inside: whether there is such an anchor.
        has: whether its pair counts.
        positives: the score of the pair.
        beyond: that less the margin.
    """

    numbers: Any
    inside: Any
    has: Any
    positives: Any
    beyond: Any
