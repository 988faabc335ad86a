"""Terms of InfoNCE under a form of the softmax: what each positive stands against, then the form's arithmetic."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor

from hardneg.losses.terms.mining import Mined, mine
from hardneg.losses.terms.reduction import Both, Terms
from hardneg.losses.terms.softmax import EMPTY, mined_logsumexp
from hardneg.losses.terms.windows import counts_of_all, pad_candidates, window_of_pairs
from hardneg.ops.comparison import Window
from hardneg.ops.energies import Linear
from hardneg.ops.own_negatives import WithOwnNegatives
from hardneg.ops.requests import ExponentialTerms, PenaltyTerms
from hardneg.ops.scores import Scores
from hardneg.penalties import Identity
from hardneg.softmaxes import Against, Softmax

if TYPE_CHECKING:
    from jaxtyping import Float, Int

    from hardneg.losses.call import Call

__all__ = ["softmax_terms"]


class Sums(NamedTuple):
    """What is summed over the negatives of one direction's anchors; see ``Against``."""

    logsumexp: Float[Tensor, "n"]
    total: Float[Tensor, "n"]
    counts: Int[Tensor, "n"]
    hardest: Float[Tensor, "n"]


Sides = tuple[Sums | None, Sums | None]


def softmax_terms(call: Call, scale: Float[Tensor, ""], margin: float, softmax: Softmax) -> Both:
    """Query i with candidate i, in both directions."""
    positive, selection = call.own_positive(), call.selection
    if selection is None:
        p = call.scores.pairs(call.scores.row_numbers(), positive)
        sides = sums_of_all(call, positive, p, scale, softmax)
    else:
        if softmax.hardness_of != "all":
            raise ValueError(f'{softmax!r} takes negatives="all", not {call.negatives!r}')
        p, *mined = mine(call, positive, selection)
        queries, candidates = (
            None if some is None else sums_of_mined(some, scale, softmax) for some in mined
        )
        sides = queries, candidates

    def terms_of(sums: Sums | None) -> Terms | None:
        if sums is None:
            return None
        valid = (positive >= 0) & (sums.counts > 0)
        counts, off = sums.counts.clamp(min=1), scale * margin
        x = Against(p * scale - off, sums.logsumexp, sums.total, counts, scale, off)
        values = torch.where(valid, softmax.term(x), 0.0)
        return Terms(values, valid, valid.long(), valid.long(), p, sums.hardest)

    return terms_of(sides[0]), terms_of(sides[1])


def sums_of_mined(mined: Mined, scale: Float[Tensor, ""], softmax: Softmax) -> Sums:
    """Over the selected negatives."""
    total = torch.where(mined.there, mined.scores, 0.0).sum(1) * scale
    logsumexp = mined_logsumexp(mined, scale, softmax.hardness)
    return Sums(logsumexp, total, mined.there.sum(1), mined.hardest)


def sums_of_all(
    call: Call,
    positive: Int[Tensor, "n"],
    p: Float[Tensor, "n"],
    scale: Float[Tensor, ""],
    softmax: Softmax,
) -> Sides:
    """Over all negatives (below the ceiling, where there is one)."""
    window = window_of_pairs(call, positive, p)
    found = weighted_logsumexp(call, scale, softmax, window)
    totals = totals_of_all(call, scale, window) if softmax.needs_total else (p * 0.0,) * 2
    counts, n = counts_of_all(call, window), p.shape[0]

    def side(number: int) -> Sums:
        logsumexp, largest = (x[:n] for x in found[number])
        hardest = torch.where(largest > EMPTY, largest, 0.0)
        return Sums(logsumexp, totals[number][:n], counts[number][:n], hardest)

    return side(0) if call.queries else None, side(1) if call.candidates else None


def weighted_logsumexp(
    call: Call, scale: Float[Tensor, ""], softmax: Softmax, window: Window
) -> list[tuple[Tensor, Tensor]]:
    """Log-sum-exps and highest scores by rows and columns, with the negatives' weights."""
    scores, hardness, which = call.scores, softmax.hardness, softmax.hardness_of
    if not isinstance(scores, WithOwnNegatives) or not call.queries:
        # nothing here is an anchor's own
        of_these = 0.0 if which == "own" else hardness
        return one_logsumexp(call, scores, scale, of_these, window)
    if which == "all":
        return one_logsumexp(call, scores, scale, hardness, window)
    of_batch, of_own = (hardness, 0.0) if which == "batch" else (0.0, hardness)
    own = one_logsumexp(call, scores.own_alone(), scale, of_own, window)
    if scores.own.alone:
        return own
    rows, columns = one_logsumexp(call, scores.shared, scale, of_batch, window)
    joined = torch.logaddexp(rows[0], own[0][0]), torch.maximum(rows[1], own[0][1])
    return [joined, columns]


def one_logsumexp(
    call: Call, scores: Scores, scale: Float[Tensor, ""], hardness: float, window: Window
) -> list[tuple[Tensor, Tensor]]:
    """The same where all negatives are weighted alike, or none.

    A weight that is held constant adds to the exponent's factor: the sum is that of a larger scale, and the
    gradients of the scores are smaller by one number than those of that sum.
    """
    sides = call.queries, call.candidates
    if hardness == 0.0:
        found = scores.logsumexp(ExponentialTerms(Linear(), "negatives", scale, window, *sides))
        share = torch.ones_like(scale)
        wider = scale
    else:
        wider = scale + hardness
        share = (scale / wider).detach()
        learned = with_slope(wider, 1 / share)
        found = scores.logsumexp(ExponentialTerms(Linear(), "negatives", learned, window, *sides))

    def side(logsumexp: Tensor, largest: Tensor) -> tuple[Tensor, Tensor]:
        # finite where there is nothing: what is subtracted below is a number
        filled = torch.where(logsumexp > EMPTY, logsumexp, EMPTY)
        return filled if hardness == 0.0 else with_slope(filled, share), largest / wider.detach()

    return [side(found.rows, found.row_maxima), side(found.columns, found.column_maxima)]


def with_slope(x: Tensor, slope: Tensor) -> Tensor:
    """x, whose gradient is multiplied."""
    held = x.detach()
    return held + slope * (x - held)


def totals_of_all(call: Call, scale: Float[Tensor, ""], window: Window) -> tuple[Tensor, Tensor]:
    """Sums of the exponents by rows and columns."""
    zeros = call.scores.zeros()
    of_columns = pad_candidates(zeros, call.scores, 0.0) if call.candidates else None
    of_rows = zeros if call.queries else None
    terms = PenaltyTerms(Identity(), of_rows, of_columns, scale=scale, window=window, maxima=False)
    found = call.scores.penalty_sum(terms)
    return found.rows, found.columns
