"""Fused ``penalty_sum``: one pass gives the sums and, where anchors have weights, the gradients: 6nmd in all."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from hardneg.ops.comparison import Comparison
from hardneg.ops.requests import EVERYTHING, UNWEIGHTED, PenaltyTerms, Wanted, Weights
from hardneg.ops.scores import PenaltyGradients, Sums
from hardneg.ops.triton.admission import has_relation, relation_argument
from hardneg.ops.triton.arguments import NO_ANCHORS, Anchors, Bounds, Terms, constant
from hardneg.ops.triton.dense_gradient import Gradients
from hardneg.ops.triton.dense_kernel import PARTS
from hardneg.ops.triton.fold import fold_penalties
from hardneg.ops.triton.forms import PENALTIES
from hardneg.ops.triton.gain import penalty_gain
from hardneg.ops.triton.operands import bounds_of, vector
from hardneg.ops.triton.penalty_part import penalty_part, report_penalties
from hardneg.ops.triton.sweep import Sweep
from hardneg.ops.triton.tuning import Limited
from hardneg.penalties import Hinge

__all__ = ["penalty_pass"]


@dataclass(eq=False, repr=False)
class Side:
    """Rows or columns: thresholds, window and weights, partial results, and the results, one an anchor."""

    thresholds: Tensor
    bounds: Bounds
    weights: Tensor | None
    sign: float
    sweep: Sweep
    axis: int
    slopes_are_counts: bool
    with_maxima: bool
    together: bool

    def __post_init__(self) -> None:
        own_slopes = self.weights is not None and not self.slopes_are_counts
        planes, parts = 2 + own_slopes + self.with_maxima, 1 if self.together else PARTS
        self.partials = self.sweep.partials(planes, self.axis, parts)
        self.sums = torch.empty_like(self.thresholds)
        self.maxima = torch.full_like(self.thresholds, -math.inf)
        self.counts = torch.empty_like(self.thresholds, dtype=torch.int64)
        self.slopes = None if self.weights is None else torch.empty_like(self.thresholds)

    def argument(self) -> Anchors:
        """What ``take_side`` takes."""
        partials = self.partials.buffer, self.partials.anchors
        return Anchors(self.thresholds, self.bounds, self.weights, *partials)

    def fold(self, own: slice, others: slice) -> None:
        """Add what the tiles of a panel have reported."""
        found = self.sums, self.counts, self.maxima if self.with_maxima else None, self.slopes
        results = tuple(None if x is None else x[own] for x in found)
        weights = None if self.weights is None else self.weights[own]
        given = results, weights, self.sign
        self.partials.fold(fold_penalties, own, others, *given, COUNTS=self.slopes_are_counts)


def penalty_pass(
    comparison: Comparison,
    terms: PenaltyTerms,
    weights: Weights = UNWEIGHTED,
    wanted: Wanted = EVERYTHING,
    one_set: bool = False,
) -> tuple[Sums, PenaltyGradients | None]:
    """See ``tiled.penalty_sum.penalty_pass``; of ``one_set`` the queries get the whole gradient."""
    weighted = any(weight is not None for weight in weights)
    simple = weighted and is_simple(terms)
    # float16 needs a gain beside
    sweep = Sweep.over(comparison, weighted, simple and comparison.queries.dtype != torch.float16)
    together = simple and fits_together(comparison, terms, sweep)
    thresholds = vector(terms.row_thresholds), vector(terms.column_thresholds)
    bounds = bounds_of(terms.window)
    form = PENALTIES[type(terms.penalty)].form
    kinds = form.COUNTS.value, terms.maxima, together
    sides = [
        None
        if of_side is None
        else Side(of_side, bounds[axis], vector(weights[axis]), terms.sign, sweep, axis, *kinds)
        for axis, of_side in enumerate(thresholds)
    ]
    gradients = None
    if weighted:
        own = [(s.thresholds, s.weights) for s in sides if s]
        gain = penalty_gain(sweep.ready, terms, own * (1 + one_set))
        gradients = Gradients(comparison, sweep, gain, wanted)
    relation = relation_argument(comparison.relation, terms.among)
    rows, columns = (NO_ANCHORS if side is None else side.argument() for side in sides)
    if one_set and weighted:  # the weights and their transpose in one product
        columns = rows._replace(partials=None, width=0)
    given = penalty_part, report_penalties, form, (terms.sign, 0.0), rows, columns, terms.scale
    told = {"MAXIMA": constant(terms.maxima), "TOGETHER": constant(together)}
    argument = Terms(*given, **told)
    slope_of_scale = sweep.run(relation, argument, sides, gradients)
    sums = summed(sides, comparison.queries.device)
    if gradients is None:
        return sums, None
    if one_set:
        slope_of_scale = slope_of_scale / 2
    slopes = [sums.rows.new_empty(0) if s is None or s.slopes is None else s.slopes for s in sides]
    return sums, PenaltyGradients(*gradients.results(), slope_of_scale, slopes[0], slopes[1])


def fits_together(comparison: Comparison, terms: PenaltyTerms, sweep: Sweep) -> bool:
    """Whether what the parts of a tile find fits into registers beside what else hinges take."""
    crowded = isinstance(sweep.tiles, Limited) and has_relation(comparison.relation)
    return not (terms.maxima or sweep.ready.pulled or crowded)


def is_simple(terms: PenaltyTerms) -> bool:
    """Whether terms are hinges without bounds."""
    return type(terms.penalty) is Hinge and terms.window.open and terms.scale is None


def summed(sides: list[Side | None], device: torch.device) -> Sums:
    """The results of both sides; empty for one without thresholds."""
    none = torch.empty(0, dtype=torch.float32, device=device)
    return Sums(
        *(none if side is None else side.sums for side in sides),
        *(none.long() if side is None else side.counts for side in sides),
        *(none if side is None else side.maxima for side in sides),
    )
