"""Fused ``logsumexp`` of rows and columns from one pass; the backward makes weights of the tiles once more."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from hardneg.ops import energies
from hardneg.ops.comparison import Comparison
from hardneg.ops.requests import EVERYTHING, ExponentialTerms, Wanted
from hardneg.ops.scores import LogSumExp
from hardneg.ops.triton.admission import has_relation, relation_argument
from hardneg.ops.triton.arguments import NO_ANCHORS, Anchors, Terms
from hardneg.ops.triton.dense_gradient import Gradients
from hardneg.ops.triton.dense_kernel import PARTS
from hardneg.ops.triton.exponential_part import exponential_part, report_scale
from hardneg.ops.triton.fold import fold_exponentials
from hardneg.ops.triton.forms import ENERGIES
from hardneg.ops.triton.gain import energy_gain
from hardneg.ops.triton.operands import bounds_of, vector
from hardneg.ops.triton.sweep import Partials, Sweep
from hardneg.similarities import is_distance

__all__ = ["logsumexp", "logsumexp_backward"]


@dataclass(eq=False, repr=False)
class Running:
    """The log-sum-exps of one side, panel by panel."""

    results: Tensor
    maxima: Tensor
    partials: Partials
    others: int

    def fold(self, own: slice, others: slice) -> None:
        """Add what the tiles of a panel have reported."""
        given = self.results[own], self.maxima[own]
        last = others.stop == self.others
        self.partials.fold(fold_exponentials, own, others, *given, LAST=last)


def logsumexp(comparison: Comparison, terms: ExponentialTerms) -> LogSumExp:
    """See ``reference.logsumexp``."""
    sweep = Sweep.over(comparison, weighted=False, light=is_light(comparison, terms))
    sides = [running(sweep, axis, on) for axis, on in enumerate((terms.rows, terms.columns))]
    given = [
        Anchors(side.results, bounds, None, side.partials.buffer, side.partials.anchors)
        for side, bounds in zip(sides, bounds_of(terms.window), strict=True)
    ]
    relation = relation_argument(comparison.relation, terms.among)
    on = terms.rows, terms.columns
    asked = [one if yes else NO_ANCHORS for one, yes in zip(given, on, strict=True)]
    folded = [one if yes else None for one, yes in zip(sides, on, strict=True)]
    sweep.run(relation, terms_argument(terms, *asked), folded)
    return LogSumExp(*(side.results for side in sides), *(side.maxima for side in sides))


def is_light(comparison: Comparison, terms: ExponentialTerms) -> bool:
    """Whether exponentials are of the score itself, of products, without ids and bounds."""
    simple = type(terms.energy) is energies.Linear and not is_distance(comparison.similarity)
    return simple and terms.window.open and not has_relation(comparison.relation)


def running(sweep: Sweep, axis: int, on: bool) -> Running:
    """A side with room for what its tiles report and for its results; empty results where it is not asked for."""
    length = sweep.ready.shape[axis] if on else 0
    results = torch.empty(length, dtype=torch.float32, device=sweep.device)
    partials = sweep.partials(2 if on else 0, axis, PARTS)
    return Running(results, torch.empty_like(results), partials, sweep.ready.shape[1 - axis])


def logsumexp_backward(
    comparison: Comparison,
    terms: ExponentialTerms,
    results: tuple[Tensor, Tensor],
    upstream: tuple[Tensor | None, Tensor | None],
    wanted: Wanted = EVERYTHING,
    one_set: bool = False,
) -> tuple[Tensor, Tensor, Tensor]:
    """See ``tiled.logsumexp.logsumexp_backward``; of ``one_set`` the queries get the whole gradient."""
    sweep = Sweep.over(comparison, weighted=True)
    if one_set:  # the weights and their transpose in one product
        results, upstream = (results[0], results[0]), (upstream[0], upstream[0])
    given = [
        NO_ANCHORS
        if gradient is None
        else Anchors(vector(result), bounds, vector(gradient), None, 0)
        for bounds, result, gradient in zip(
            bounds_of(terms.window, one_set), results, upstream, strict=True
        )
    ]
    relation = relation_argument(comparison.relation, terms.among)
    gain = energy_gain(sweep.ready, terms, [x for x in upstream if x is not None])
    gradients = Gradients(comparison, sweep, gain, wanted)
    slope_of_scale = sweep.run(relation, terms_argument(terms, *given), (), gradients)
    return *gradients.results(), slope_of_scale / 2 if one_set else slope_of_scale


def terms_argument(terms: ExponentialTerms, rows: Anchors, columns: Anchors) -> Terms:
    """What ``exponential_part`` takes."""
    form = ENERGIES[type(terms.energy)].form
    first, second = energies.parameters(terms.energy)
    numbers = first, second
    return Terms(exponential_part, report_scale, form, numbers, rows, columns, terms.scale)
