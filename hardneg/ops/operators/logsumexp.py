"""``logsumexp`` as an operator."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import Tensor

from hardneg import energies
from hardneg.ops.operators.registration import (
    Windowed,
    differentiable,
    gradient_of,
    operator,
)
from hardneg.ops.requests import ExponentialTerms, Wanted
from hardneg.ops.tiled.logsumexp import logsumexp, logsumexp_backward
from hardneg.similarities import working_type

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
    wanted_gradients: list[bool]


def shapes(a: LogSumExp) -> tuple[Tensor, ...]:
    """A result and a largest exponent for each query and each candidate."""
    n = a.queries.shape[0] if a.rows else 0
    m = a.candidates.shape[0] if a.columns else 0
    kind = working_type(a.queries)
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
        gradient_of(a.queries, a.wanted_gradients[0]),
        gradient_of(a.candidates, a.wanted_gradients[1]),
        a.queries.new_empty((), dtype=working_type(a.queries)),
    ),
)
def run_backward(a: LogSumExpBackward) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of queries, candidates and scale."""
    told = a.comparison, a.terms
    results = a.row_results, a.column_results
    upstream = a.row_gradient if a.rows else None, a.column_gradient if a.columns else None
    wanted = Wanted(*a.wanted_gradients)
    if a.fused:
        from hardneg.ops.triton import logsumexp as kernels

        return kernels.logsumexp_backward(*told, results, upstream, wanted)
    return logsumexp_backward(*told, results, upstream, a.tile_size, wanted)


def backward(ctx: Any, rows: Tensor | None, columns: Tensor | None, *_: None) -> Any:
    """Gradients by argument."""
    a, results = LogSumExp.restore(ctx)
    if rows is None and columns is None:
        return a.gradients()
    upstream = [
        torch.zeros_like(result) if gradient is None else gradient
        for gradient, result in zip((rows, columns), results[:2], strict=True)
    ]
    wanted = LogSumExp.wanted(ctx)
    dq, dc, scale = torch.ops.hardneg.logsumexp_backward(
        *a.values(), *results[:2], *upstream, wanted
    )
    if a.scale is not None:
        scale = scale.to(a.scale.dtype).reshape(a.scale.shape)
    return a.returned(dq, dc, scale=scale if wanted[2] else None)


differentiable("logsumexp", LogSumExp, backward, by="logsumexp_backward")
