"""Fused ``logsumexp`` of rows and columns from one pass; the backward makes weights of the tiles once more."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
import triton
from torch import Tensor

from hardneg.ops import energies
from hardneg.ops.comparison import Comparison, Window
from hardneg.ops.requests import EVERYTHING, ExponentialTerms, Wanted
from hardneg.ops.scores import LogSumExp
from hardneg.ops.triton.admission import admission_arguments
from hardneg.ops.triton.dense_gradient import NO_WEIGHTS, Gradients
from hardneg.ops.triton.fold import fold_exponentials
from hardneg.ops.triton.gain import energy_slope_bound, gain_for, largest_score, needs_gain
from hardneg.ops.triton.launch import architecture, launch
from hardneg.ops.triton.operands import Operands, vector
from hardneg.ops.triton.sweep import Partials, Sweep
from hardneg.ops.triton.tuning import configuration

__all__ = ["logsumexp", "logsumexp_backward"]

Bounds = tuple[Tensor | None, Tensor | None]
SIDES = ("row_side", "column_side")


@dataclass(eq=False, repr=False)
class Running:
    """The log-sum-exps of one side, panel by panel."""

    results: Tensor
    maxima: Tensor
    partials: Partials

    def fold(self, mine: slice, others: slice, total: int) -> None:
        """Add what the tiles of a panel have reported, of ``total`` others in all."""
        chosen = configuration("fold", "rows", architecture(self.results.device))
        arguments = {
            "partials": self.partials.buffer,
            "blocks": self.partials.blocks(others.stop - others.start),
            "width": self.partials.anchors,
            "length": mine.stop - mine.start,
            "results": self.results[mine],
            "maxima": self.maxima[mine],
            "EARLIER": others.start > 0,
            "LAST": others.stop == total,
        }
        grid = (triton.cdiv(mine.stop - mine.start, chosen.columns),)
        launch(fold_exponentials, grid, arguments, chosen)


def logsumexp(comparison: Comparison, terms: ExponentialTerms) -> LogSumExp:
    """See ``reference.logsumexp``."""
    sweep, on = Sweep.over(comparison, weighted=False), (terms.rows, terms.columns)
    told = {**told_of(comparison, terms, on), **NO_WEIGHTS}
    sides = [running(sweep, axis, on[axis]) for axis in (0, 1)]
    for name, side, bounds in zip(SIDES, sides, bounds_of(terms.window), strict=True):
        ends = side.partials.buffer, side.partials.anchors
        told[name] = (*bounds, None, None, *ends)
    for panel in sweep.panels():
        sweep.launch(panel, {**told, "shares": None})
        if terms.rows:
            sides[0].fold(panel.rows, panel.columns, sweep.ready.shape[1])
        if terms.columns:
            sides[1].fold(panel.columns, panel.rows, sweep.ready.shape[0])
    return LogSumExp(*(side.results for side in sides), *(side.maxima for side in sides))


def running(sweep: Sweep, axis: int, on: bool) -> Running:
    """A side with room for what its tiles report and for its results; empty results where it is not asked for."""
    length = sweep.ready.shape[axis] if on else 0
    results = torch.empty(length, dtype=torch.float32, device=sweep.device)
    return Running(results, torch.empty_like(results), sweep.partials(2 if on else 0, axis))


def logsumexp_backward(
    comparison: Comparison,
    terms: ExponentialTerms,
    results: tuple[Tensor, Tensor],
    upstream: tuple[Tensor | None, Tensor | None],
    wanted: Wanted = EVERYTHING,
) -> tuple[Tensor, Tensor, Tensor]:
    """See ``tiled.logsumexp.logsumexp_backward``."""
    sweep = Sweep.over(comparison, weighted=True)
    given = upstream[0] is not None, upstream[1] is not None
    bounds, told = bounds_of(terms.window), told_of(comparison, terms, given)
    for axis, name in enumerate(SIDES):
        ends = vector(results[axis]), vector(upstream[axis]), None, 0
        told[name] = (*bounds[axis], *ends) if given[axis] else None
    gradients = Gradients(comparison, sweep, gain_of(sweep.ready, terms, upstream), wanted)
    slope_of_scale = sweep.zero()
    for panel in sweep.panels():
        shares = None if terms.scale is None else sweep.shares(panel)
        weights = gradients.arguments(panel)
        sweep.launch(panel, {**told, **weights, "shares": shares})
        if shares is not None:
            slope_of_scale += shares.sum(dtype=torch.float64)
        gradients.add(panel)
    return *gradients.results(), slope_of_scale.float()


def told_of(
    comparison: Comparison, terms: ExponentialTerms, on: tuple[bool, bool]
) -> dict[str, Any]:
    """What the kernel is told of the exponents of the sides that are on, by the names that it gives it."""
    return {
        **admission_arguments(comparison.relation, terms.among),
        "scale": terms.scale,
        "numbers": tuple(energies.parameters(terms.energy)),
        "REDUCTION": "logsumexp",
        "FORM": terms.energy.code,
        "ROWS": on[0],
        "COLUMNS": on[1],
    }


def bounds_of(window: Window) -> tuple[Bounds, Bounds]:
    """Floors and ceilings of rows and of columns."""
    return (
        (vector(window.row_floor), vector(window.row_ceiling)),
        (vector(window.column_floor), vector(window.column_ceiling)),
    )


def gain_of(
    ready: Operands,
    terms: ExponentialTerms,
    upstream: tuple[Tensor | None, Tensor | None],
) -> Tensor | None:
    """The gain of float16 weights: a softmax is at most 1."""
    if not needs_gain(ready):
        return None
    score = largest_score(ready)
    slope = energy_slope_bound(terms.energy, score)
    bounds = [slope * gradient.abs().amax() for gradient in upstream if gradient is not None]
    return gain_for(ready, bounds, terms.scale, score)
