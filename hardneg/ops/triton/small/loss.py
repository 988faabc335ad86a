"""A whole loss of paired rows: four launches and three products forward, one launch backward.

What is kept in between are the products' gradients and numbers of rows and anchors, never a matrix.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor

from hardneg.ops.comparison import Comparison
from hardneg.ops.loss_requests import PairedLoss
from hardneg.ops.requests import Wanted
from hardneg.ops.rounding import rounding_of
from hardneg.ops.triton.admission import relation_argument
from hardneg.ops.triton.arguments import Extent, constant
from hardneg.ops.triton.dense_gradient import add_product
from hardneg.ops.triton.forms import PENALTIES
from hardneg.ops.triton.operands import padded
from hardneg.ops.triton.small.arguments import (
    BY_SCALE,
    FIRST_OF_LOSS,
    NUMBERS,
    PLANES,
    Bound,
    Equation,
    Planes,
    Products,
)
from hardneg.ops.triton.small.chosen import chosen_term
from hardneg.ops.triton.small.exponentials import exponential_slopes, exponential_term
from hardneg.ops.triton.small.finish import Finished, finish
from hardneg.ops.triton.small.gather import Gathered, gather
from hardneg.ops.triton.small.penalties import penalty_slopes, penalty_term
from hardneg.ops.triton.small.rows import Rows, rows_of_both
from hardneg.ops.triton.small.terms import terms
from hardneg.ops.triton.small.total import total
from hardneg.ops.triton.small.weights import weights
from hardneg.penalties import Logistic
from hardneg.similarities import Cosine

__all__ = ["About", "Step", "backward", "forward"]

GAIN_OF_HALF = 2.0**13
"""Derivatives of float16 are at most 2 before, at most 2**14 after it: in range, and small ones keep their digits."""


class About(NamedTuple):
    """What the backward pass needs to know.

    Attributes:
        room, gain, QUERIES, CANDIDATES: see ``Planes``.
        NORMALISED, ONE_SET: see ``Finished``.
    """

    room: int
    gain: float
    QUERIES: Any
    CANDIDATES: Any
    NORMALISED: Any
    ONE_SET: Any


class Step(NamedTuple):
    """What the backward pass needs.

    Attributes:
        q, q_factors, q_shrinks: the queries; see ``rows.Rows``.
        c, c_factors, c_shrinks: the candidates.
        dq, dc: the derivatives times the other side's rows; None for a frozen side; of one set the sum of both.
        numbers: of the anchors and of the loss.
    """

    q: Tensor
    q_factors: Tensor | None
    q_shrinks: Tensor
    c: Tensor
    c_factors: Tensor | None
    c_shrinks: Tensor
    dq: Tensor | None
    dc: Tensor | None
    numbers: Tensor


def forward(comparison: Comparison, loss: PairedLoss, wanted: Wanted) -> tuple[Tensor, Step, About]:
    """The loss, and what its gradients need."""
    queries, candidates = comparison.queries, comparison.candidates
    (n, m), told = (queries.shape[0], candidates.shape[0]), comparison.relation
    normalised, one_set = type(comparison.similarity) is Cosine, queries is candidates
    q, c = rows = rows_of_both(queries, candidates, normalised)
    matrix = multiplied(q, c)
    products = Products(matrix, matrix.stride(0), q.factors, c.factors)
    extent = Extent(0, n, 0, m, told.row_offset, told.column_offset)
    relation, equation = relation_argument(told, "negatives"), equation_of(comparison, loss, wanted)
    planes, value = planes_of(loss, equation, queries), queries.new_empty((), dtype=torch.float32)
    terms(products, extent, relation, equation, planes)
    shrinks, mean = (q.shrinks, c.shrinks), loss.reduction != "sum"
    total(planes, equation, shrinks, (n, m), float(loss.share), value, mean)
    found: tuple[Tensor | None, Tensor | None] = (None, None)
    if wanted.embeddings:
        found = rooms(rows, wanted, one_set)
        if equation.weigh is None:
            of_q = Gathered(q.copy, q.copy.stride(0), q.factors, found[0])
            of_c = Gathered(c.copy, c.copy.stride(0), c.factors, found[1])
            gather((of_q, of_c), planes, one_set)
        else:
            derivatives = room_for(queries.dtype, matrix)
            weights(products, extent, relation, equation, planes, derivatives)
            multiply(derivatives, rows, found, one_set)
    sides = (q.x, q.factors, q.shrinks, c.x, c.factors, c.shrinks)
    about = About(*planes[1:], constant(normalised), constant(one_set))
    return value, Step(*sides, *found, planes.x), about


def multiplied(q: Rows, c: Rows) -> Tensor:
    """Products of all rows in float32, a multiple of 16 apart, whatever m: kernels are compiled for that."""
    n, m = q.copy.shape[0], c.copy.shape[0]
    matrix = q.copy.new_empty(n, padded(m), dtype=torch.float32)[:, :m]
    add_product(matrix, q.copy, c.copy.T, False)
    return matrix


def room_for(kind: torch.dtype, matrix: Tensor) -> Tensor:
    """Where derivatives of a type go: in place of float32 products."""
    if kind == matrix.dtype:
        return matrix
    n, m = matrix.shape
    return matrix.new_empty(n, padded(m), dtype=kind)[:, :m]


def rooms(
    rows: tuple[Rows, Rows], wanted: Wanted, one_set: bool
) -> tuple[Tensor | None, Tensor | None]:
    """Room for what pulls the rows of each side that is not frozen; of one set all with the queries."""
    asked = (True, False) if one_set else wanted[:2]
    dq, dc = (
        x.x.new_empty(x.x.shape, dtype=torch.float32) if yes else None
        for x, yes in zip(rows, asked, strict=True)
    )
    return dq, dc


def multiply(
    derivatives: Tensor,
    rows: tuple[Rows, Rows],
    pulls: tuple[Tensor | None, Tensor | None],
    one_set: bool,
) -> None:
    """The derivatives times the rows of the other side."""
    (q, c), (dq, dc) = rows, pulls
    if dq is not None:
        add_product(dq, derivatives, c.copy, False)
    if one_set and dq is not None:
        add_product(dq, derivatives.T, q.copy, True)
    elif dc is not None:
        add_product(dc, derivatives.T, q.copy, False)


def backward(
    step: Step, about: About, upstream: Tensor, wanted: Wanted
) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
    """The gradients of both sides in the type of the embeddings, of one set all with the queries; and of the scale."""
    q, c = step.q, step.c
    planes = Planes(step.numbers, *about[:4])
    dq = None if step.dq is None else q.new_empty(q.shape)
    dc = None if step.dc is None else c.new_empty(c.shape)
    if wanted.embeddings:
        told = about.NORMALISED, about.ONE_SET, constant(q.shape[1])
        sides = (
            Finished(q, q.stride(0), step.q_factors, step.q_shrinks, step.dq, dq, *told),
            Finished(c, c.stride(0), step.c_factors, step.c_shrinks, step.dc, dc, *told),
        )
        finish(sides, planes, upstream)
    place = FIRST_OF_LOSS.value * planes.room + BY_SCALE.value
    by_scale = step.numbers[place] * upstream if wanted.scale else None
    return dq, dc, by_scale


def planes_of(loss: PairedLoss, equation: Equation, x: Tensor) -> Planes:
    """Room for the numbers of the anchors and of the loss."""
    room = padded(x.shape[0])
    numbers = x.new_empty(2 * PLANES * room + NUMBERS, dtype=torch.float32)
    half = x.dtype == torch.float16 and equation.weigh is not None
    gain = GAIN_OF_HALF if half else 1.0
    return Planes(numbers, room, gain, constant(loss.queries), constant(loss.candidates))


def equation_of(comparison: Comparison, loss: PairedLoss, wanted: Wanted) -> Equation:
    """The term of an anchor."""
    selection = loss.negatives.selection(comparison.queries.shape[1])
    softmax = loss.scale is not None
    if selection is not None:
        functions = chosen_term, None
    elif softmax:
        functions = exponential_term, exponential_slopes
    else:
        functions = penalty_term, penalty_slopes
    form = PENALTIES[Logistic if softmax else type(loss.penalty)]
    fixed = 1.0 if loss.scale is None or isinstance(loss.scale, Tensor) else float(loss.scale)
    ceiling = loss.negatives.ceiling
    return Equation(
        *functions,
        form.form,
        float(loss.margin),
        fixed,
        loss.scale if isinstance(loss.scale, Tensor) else None,
        bound_of(comparison, loss),
        constant(ceiling is not None),
        constant("none" if selection is None or ceiling is None else selection.fallback),
        constant(loss.reduction == "mean_active" and not softmax),
        constant(form.bound is not None),
        constant(wanted.scale),
    )


def bound_of(comparison: Comparison, loss: PairedLoss) -> Bound:
    """The ceiling of the negatives, moved down by the rounding of scores."""
    ceiling = loss.negatives.ceiling
    if ceiling is None:
        return Bound(0.0, 0.0)
    rounding = rounding_of(comparison, comparison.queries, lambda: comparison.queries)
    absolute = rounding.times(ceiling.steepness).absolute
    assert isinstance(absolute, float)
    return Bound(1.0 - ceiling.relative, ceiling.offset - absolute)
