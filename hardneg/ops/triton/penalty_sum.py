"""Fused ``penalty_sum``: one pass gives the sums and, where anchors have weights, the gradients: 6nmd in all."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
import triton
from torch import Tensor

from hardneg.ops.comparison import Comparison
from hardneg.ops.requests import EVERYTHING, PenaltyTerms, Wanted
from hardneg.ops.scores import Sums
from hardneg.ops.tiled.penalty_sum import PenaltyGradients, Weights
from hardneg.ops.triton.admission import admission_arguments
from hardneg.ops.triton.dense_gradient import NO_WEIGHTS, Gradients
from hardneg.ops.triton.fold import fold_penalties
from hardneg.ops.triton.gain import gain_for, largest_score, needs_gain, penalty_slope_bound
from hardneg.ops.triton.launch import architecture, launch
from hardneg.ops.triton.operands import Operands, vector
from hardneg.ops.triton.sweep import Partials, Sweep
from hardneg.ops.triton.tuning import configuration

__all__ = ["penalty_pass"]


@dataclass(eq=False, repr=False)
class Side:
    """Rows or columns: thresholds, window and weights, partial results, and the results, one an anchor."""

    thresholds: Tensor
    floors: Tensor | None
    ceilings: Tensor | None
    weights: Tensor | None
    partials: Partials

    def __post_init__(self) -> None:
        self.sums = torch.empty_like(self.thresholds)
        self.maxima = torch.empty_like(self.thresholds)
        self.counts = torch.empty_like(self.thresholds, dtype=torch.int64)
        self.slopes = None if self.weights is None else torch.empty_like(self.thresholds)

    def arguments(self) -> tuple[Any, ...]:
        """What ``take_side`` is told."""
        bounds = self.floors, self.ceilings
        partials = self.partials.buffer, self.partials.anchors
        return *bounds, self.thresholds, self.weights, *partials

    def fold(self, mine: slice, others: slice, sign: float) -> None:
        """Add what the tiles of a panel have reported."""
        chosen = configuration("fold", "rows", architecture(self.sums.device))
        arguments = {
            "partials": self.partials.buffer,
            "blocks": self.partials.blocks(others.stop - others.start),
            "width": self.partials.anchors,
            "length": mine.stop - mine.start,
            "sign": sign,
            "weights": None if self.weights is None else self.weights[mine],
            "sums": self.sums[mine],
            "counts": self.counts[mine],
            "maxima": self.maxima[mine],
            "slopes": None if self.slopes is None else self.slopes[mine],
            "EARLIER": others.start > 0,
        }
        grid = (triton.cdiv(mine.stop - mine.start, chosen.columns),)
        launch(fold_penalties, grid, arguments, chosen)


def penalty_pass(
    comparison: Comparison,
    terms: PenaltyTerms,
    weights: Weights = (None, None),
    wanted: Wanted = EVERYTHING,
) -> tuple[Sums, PenaltyGradients | None]:
    """See ``tiled.penalty_sum.penalty_pass``."""
    weighted = any(weight is not None for weight in weights)
    sweep, window = Sweep.over(comparison, weighted), terms.window
    row_bounds = window.row_floor, window.row_ceiling
    column_bounds = window.column_floor, window.column_ceiling
    sides = (
        side_of(sweep, terms.row_thresholds, *row_bounds, weights[0], 0),
        side_of(sweep, terms.column_thresholds, *column_bounds, weights[1], 1),
    )
    gain = gain_of(sweep.ready, terms, sides) if weighted else None
    gradients = Gradients(comparison, sweep, gain, wanted) if weighted else None
    told = admission_arguments(comparison.relation, terms.among) | told_of(terms, sides)
    slope_of_scale = walk(sweep, told, sides, gradients)
    sums = summed(sides, comparison.queries.device)
    if gradients is None:
        return sums, None
    slopes = [sums.rows.new_empty(0) if s is None or s.slopes is None else s.slopes for s in sides]
    return sums, PenaltyGradients(*gradients.results(), slope_of_scale, slopes[0], slopes[1])


def told_of(terms: PenaltyTerms, sides: tuple[Side | None, Side | None]) -> dict[str, Any]:
    """What the kernel is told of the terms, by the names that it gives it."""
    return {
        "row_side": None if sides[0] is None else sides[0].arguments(),
        "column_side": None if sides[1] is None else sides[1].arguments(),
        "scale": terms.scale,
        "numbers": (terms.sign, 0.0),
        "REDUCTION": "penalty_sum",
        "FORM": terms.penalty.code,
        "ROWS": sides[0] is not None,
        "COLUMNS": sides[1] is not None,
    }


def side_of(
    sweep: Sweep,
    thresholds: Tensor | None,
    floors: Tensor | None,
    ceilings: Tensor | None,
    weights: Tensor | None,
    axis: int,
) -> Side | None:
    """A side with room for what its tiles report; None without thresholds."""
    if thresholds is None:
        return None
    partials = sweep.partials(3 if weights is None else 4, axis)
    bounds = vector(floors), vector(ceilings)
    given = vector(thresholds)
    assert given is not None
    return Side(given, *bounds, vector(weights), partials)


def gain_of(
    ready: Operands,
    terms: PenaltyTerms,
    sides: tuple[Side | None, Side | None],
) -> Tensor | None:
    """The gain of float16 weights."""
    if not needs_gain(ready):
        return None
    score, scale = largest_score(ready), terms.scale
    bounds = [
        penalty_slope_bound(terms.penalty, scale, side.thresholds, score)
        * side.weights.abs().amax()
        for side in sides
        if side is not None and side.weights is not None
    ]
    return gain_for(ready, bounds, scale, score)


def walk(
    sweep: Sweep,
    told: dict[str, Any],
    sides: tuple[Side | None, Side | None],
    gradients: Gradients | None,
) -> Tensor:
    """All panels; returns the gradient of the scale."""
    slope_of_scale = sweep.zero()
    for panel in sweep.panels():
        shared = gradients is not None and told["scale"] is not None
        shares = sweep.shares(panel) if shared else None
        weights = NO_WEIGHTS if gradients is None else gradients.arguments(panel)
        sweep.launch(panel, {**told, **weights, "shares": shares})
        for side, mine, others in zip(
            sides, (panel.rows, panel.columns), (panel.columns, panel.rows), strict=True
        ):
            if side is not None:
                side.fold(mine, others, told["numbers"][0])
        if shares is not None:
            slope_of_scale += shares.sum(dtype=torch.float64)
        if gradients is not None:
            gradients.add(panel)
    return slope_of_scale.float()


def summed(sides: tuple[Side | None, Side | None], device: torch.device) -> Sums:
    """The results of both sides; empty for one without thresholds."""
    none = torch.empty(0, dtype=torch.float32, device=device)
    return Sums(
        *(none if side is None else side.sums for side in sides),
        *(none.long() if side is None else side.counts for side in sides),
        *(none if side is None else side.maxima for side in sides),
    )
