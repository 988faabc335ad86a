"""``penalty_sum`` as operators: the sums, their backward by recomputed tiles, and the total with its gradients."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import Tensor

from hardneg import penalties
from hardneg.ops.executor import Sums
from hardneg.ops.operators.registration import (
    Windowed,
    differentiable,
    gradient_of,
    operator,
)
from hardneg.ops.requests import EVERYTHING, PenaltyTerms, Wanted
from hardneg.ops.tiled.penalty_sum import PenaltyGradients, Weights, penalty_pass
from hardneg.similarities import working_type

__all__ = ["PenaltySum", "WeightedPenaltySum"]


class PenaltySum(Windowed):
    """Arguments of ``penalty_sum``."""

    differentiable_results: ClassVar[int] = 2

    row_thresholds: Tensor | None
    column_thresholds: Tensor | None
    scale: Tensor | None
    among: str
    penalty: str
    sign: float

    @property
    def terms(self) -> PenaltyTerms:
        """What is added up."""
        thresholds = self.row_thresholds, self.column_thresholds
        penalty = penalties.BY_NAME[self.penalty]
        return PenaltyTerms(penalty, *thresholds, self.among, self.sign, self.scale, self.window)


class WeightedPenaltySum(PenaltySum):
    """Arguments of its backward and of ``penalty_total``: the weight of every anchor too."""

    differentiable_results: ClassVar[int] = 1

    row_weights: Tensor | None
    column_weights: Tensor | None
    wanted_gradients: list[bool]


def run(
    a: PenaltySum, weights: Weights = (None, None), wanted: Wanted = EVERYTHING
) -> tuple[Sums, PenaltyGradients | None]:
    """One pass over the tiles."""
    if a.fused:
        from hardneg.ops.triton import penalty_sum as kernels

        return kernels.penalty_pass(a.comparison, a.terms, weights, wanted)
    return penalty_pass(a.comparison, a.terms, weights, a.tile_size, wanted)


def sums_shapes(a: PenaltySum) -> tuple[Tensor, ...]:
    """Sums and counts of each side that has thresholds."""
    sides = a.row_thresholds, a.column_thresholds
    lengths = [0 if thresholds is None else thresholds.shape[0] for thresholds in sides]
    sums = [a.queries.new_empty(n, dtype=working_type(a.queries)) for n in lengths]
    counts = [torch.empty_like(x, dtype=torch.long) for x in sums]
    maxima = [torch.empty_like(x) for x in sums]
    return *sums, *counts, *maxima


def gradient_shapes(a: WeightedPenaltySum) -> tuple[Tensor, ...]:
    """Gradients of queries, candidates, scale and both thresholds."""
    vector = a.queries.new_empty((), dtype=working_type(a.queries))
    lengths = [
        0 if weights is None else weights.shape[0] for weights in (a.row_weights, a.column_weights)
    ]
    return (
        gradient_of(a.queries, a.wanted_gradients[0]),
        gradient_of(a.candidates, a.wanted_gradients[1]),
        vector,
        *(vector.new_empty(length) for length in lengths),
    )


def tensors_of(found: PenaltyGradients) -> tuple[Tensor, ...]:
    """The gradients in the operators' order."""
    return (
        found.queries,
        found.candidates,
        found.scale,
        found.row_thresholds,
        found.column_thresholds,
    )


@operator("penalty_sum", PenaltySum, 6, sums_shapes)
def run_sum(a: PenaltySum) -> tuple[Tensor, ...]:
    """See ``reference.penalty_sum``."""
    return run(a)[0]


@operator("penalty_sum_backward", WeightedPenaltySum, 5, gradient_shapes)
def run_backward(a: WeightedPenaltySum) -> tuple[Tensor, ...]:
    """The tiles once more, now with the weight of every anchor known."""
    _, gradients = run(a, (a.row_weights, a.column_weights), Wanted(*a.wanted_gradients))
    assert gradients is not None
    return tensors_of(gradients)


@operator(
    "penalty_total",
    WeightedPenaltySum,
    10,
    lambda a: (
        (
            a.queries.new_empty((), dtype=working_type(a.queries)),
            *sums_shapes(a)[2:],
            *gradient_shapes(a),
        )
    ),
)
def run_total(a: WeightedPenaltySum) -> tuple[Tensor, ...]:
    """The weighted total, the counts, and in the same pass the total's gradients."""
    sums, gradients = run(a, (a.row_weights, a.column_weights), Wanted(*a.wanted_gradients))
    assert gradients is not None
    total = torch.zeros_like(gradients.scale)
    for weights, of_side in ((a.row_weights, sums.rows), (a.column_weights, sums.columns)):
        if weights is not None:
            total += (weights * of_side).sum()  # adds pairwise, which a dot product does not
    return total, *sums[2:], *tensors_of(gradients)


def gradients_of(a: PenaltySum, found: tuple[Tensor, ...]) -> Any:
    """The operators' gradients by argument."""
    dq, dc, scale, rows, columns = found
    return a.returned(
        dq,
        dc,
        scale=None if a.scale is None else scale.to(a.scale.dtype).reshape(a.scale.shape),
        row_thresholds=of_side(a.row_thresholds, rows),
        column_thresholds=of_side(a.column_thresholds, columns),
    )


def of_side(thresholds: Tensor | None, gradient: Tensor) -> Tensor | None:
    """The gradient of a side's thresholds; None where there are none, or where it had no weights."""
    given = thresholds is not None and gradient.shape == thresholds.shape
    return gradient if given else None


def backward(ctx: Any, rows: Tensor | None, columns: Tensor | None, *_: None) -> Any:
    """Weights are the upstream gradients of the sums; a side without one is not weighted."""
    a = PenaltySum.restore(ctx)[0]
    if rows is None and columns is None:
        return a.gradients()
    found = torch.ops.hardneg.penalty_sum_backward(
        *a.values(),
        None if a.row_thresholds is None or rows is None else rows.contiguous(),
        None if a.column_thresholds is None or columns is None else columns.contiguous(),
        PenaltySum.wanted(ctx),
    )
    return gradients_of(a, found)


def backward_of_total(ctx: Any, upstream: Tensor | None, *_: None) -> Any:
    """Scale what the forward pass computed."""
    a, outputs = WeightedPenaltySum.restore(ctx)
    if upstream is None:
        return a.gradients()
    found = tuple(torch.ops.hardneg.scaled(upstream, x) for x in outputs[5:])
    return gradients_of(a, found)


differentiable("penalty_sum", PenaltySum, backward, by="penalty_sum_backward")
differentiable("penalty_total", WeightedPenaltySum, backward_of_total)
