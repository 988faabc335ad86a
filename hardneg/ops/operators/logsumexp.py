"""``logsumexp`` as an operator."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import Tensor

from hardneg import energies
from hardneg.ops.operators.registration import Windowed, differentiable, operator, vector_type
from hardneg.ops.requests import ExponentialTerms
from hardneg.ops.tiled.logsumexp import logsumexp, logsumexp_backward

__all__ = ["LogSumExp"]


class LogSumExp(Windowed):
    """Arguments of ``logsumexp``."""

    differentiable_results: ClassVar[int] = 2

    scale: Tensor | None
    among: str
    energy: str
    parameters: list[float]
    rows: bool
    columns: bool

    @property
    def terms(self) -> ExponentialTerms:
        """What is added up."""
        energy = energies.BY_CODE[self.energy](*self.parameters)
        return ExponentialTerms(
            energy, self.among, self.scale, self.window, self.rows, self.columns
        )


class LogSumExpBackward(LogSumExp):
    """Arguments of its backward: results and upstream gradients too."""

    row_results: Tensor
    column_results: Tensor
    row_gradient: Tensor
    column_gradient: Tensor


def shapes(a: LogSumExp) -> tuple[Tensor, ...]:
    """A result and a largest exponent for each query and each candidate."""
    n = a.queries.shape[0] if a.rows else 0
    m = a.candidates.shape[0] if a.columns else 0
    kind = vector_type(a.queries)
    return tuple(a.queries.new_empty(length, dtype=kind) for length in (n, m, n, m))


@operator("logsumexp", LogSumExp, 4, shapes)
def run(a: LogSumExp) -> tuple[Tensor, ...]:
    """See ``reference.logsumexp``."""
    if a.fused:
        from hardneg.ops.triton import logsumexp as kernels

        return kernels.logsumexp(a.comparison, a.terms)
    return logsumexp(a.comparison, a.terms, a.tile_size)


@operator(
    "logsumexp_backward",
    LogSumExpBackward,
    3,
    lambda a: (
        a.queries.new_empty(a.queries.shape),
        a.candidates.new_empty(a.candidates.shape),
        a.queries.new_empty((), dtype=vector_type(a.queries)),
    ),
)
def run_backward(a: LogSumExpBackward) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of queries, candidates and scale."""
    told = a.comparison, a.terms
    results = a.row_results, a.column_results
    upstream = a.row_gradient if a.rows else None, a.column_gradient if a.columns else None
    if a.fused:
        from hardneg.ops.triton import logsumexp as kernels

        return kernels.logsumexp_backward(*told, results, upstream)
    return logsumexp_backward(*told, results, upstream, a.tile_size)


def backward(ctx: Any, rows: Tensor | None, columns: Tensor | None, *_: None) -> Any:
    """Gradients by argument."""
    a, results = LogSumExp.restore(ctx)
    if rows is None and columns is None:
        return a.gradients()
    upstream = [
        torch.zeros_like(result) if gradient is None else gradient
        for gradient, result in zip((rows, columns), results[:2], strict=True)
    ]
    dq, dc, scale = torch.ops.hardneg.logsumexp_backward(*a.values(), *results[:2], *upstream)
    if a.scale is not None:
        scale = scale.to(a.scale.dtype).reshape(a.scale.shape)
    return LogSumExp.gradients(queries=dq, candidates=dc, scale=None if a.scale is None else scale)


differentiable("logsumexp", LogSumExp, backward, by="logsumexp_backward")
