"""Losses of paired rows over a small matrix, and their derivatives by the scores."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from hardneg.negatives import Selection
from hardneg.ops.comparison import Comparison
from hardneg.ops.loss_requests import PairedLoss
from hardneg.ops.small.chosen import Choices
from hardneg.ops.small.chosen_terms import knows_terms, terms_of
from hardneg.ops.small.exponentials import of_exponentials
from hardneg.ops.small.pairs import FAR, Pairs
from hardneg.ops.small.slopes import Slopes
from hardneg.ops.small.weights import by_margin, sides, term_weights
from hardneg.similarities import Cosine

if TYPE_CHECKING:
    from jaxtyping import Float

__all__ = ["knows_paired", "paired_loss"]


def knows_paired(loss: PairedLoss, comparison: Comparison) -> bool:
    """All but means over active terms of all negatives."""
    if not knows_terms(loss, comparison):
        return False
    if loss.penalty is None or loss.reduction != "mean_active":
        return True
    return loss.negatives.selection(comparison.queries.shape[1]) is not None


def paired_loss(
    comparison: Comparison, scores: Float[Tensor, "n m"], loss: PairedLoss, gradient: bool
) -> Slopes:
    """A loss of pairs, and its derivatives where they are wanted."""
    pairs = Pairs.of(comparison, scores)
    selection = loss.negatives.selection(comparison.queries.shape[1])
    if selection is not None:
        return of_chosen(comparison, pairs, loss, selection, gradient)
    if loss.scale is None:
        return of_all(pairs, loss, gradient)
    largest = 1.0 if type(comparison.similarity) is Cosine else None
    return of_exponentials(pairs, loss, gradient, largest)


def of_chosen(
    comparison: Comparison, pairs: Pairs, loss: PairedLoss, selection: Selection, gradient: bool
) -> Slopes:
    """The terms of selected negatives."""
    chosen = Choices.of(comparison, pairs, loss, selection).of_sides(sides(loss))
    positives = pairs.positives
    if pairs.has is not None:
        positives = torch.add(positives, 1 - pairs.has, alpha=FAR)
    terms = terms_of(chosen, positives, loss)
    weights = term_weights(loss, chosen.valid(positives), terms.values)
    value = (terms.values * weights).sum()
    if not gradient:
        return Slopes(value)
    slopes = terms.by_negatives * weights
    by_scores = torch.zeros_like(pairs.scores)
    for columns, index, part in zip(sides(loss), chosen.places, slopes, strict=True):
        pairs.side(by_scores, columns).scatter_add_(1, index, part)
    of_positives = slopes.sum((0, 2))
    by_scores.diagonal().sub_(of_positives)
    return Slopes(value, by_scores, by_margin(loss, of_positives))


def of_all(pairs: Pairs, loss: PairedLoss, gradient: bool) -> Slopes:
    """The penalties of all negatives."""
    found = [of_side(pairs, loss, columns, gradient) for columns in sides(loss)]
    if len(found) == 1:
        return found[0]
    return found[0].plus(found[1])


def of_side(pairs: Pairs, loss: PairedLoss, columns: bool, gradient: bool) -> Slopes:
    """The penalties of the anchors of one direction."""
    assert loss.penalty is not None
    of_anchors, has = pairs.positives - loss.margin, pairs.has
    if columns:
        of_anchors, has = (
            pairs.padded(of_anchors, FAR),
            None if has is None else pairs.padded(has, 0.0),
        )
    else:
        of_anchors, has = of_anchors[:, None], None if has is None else has[:, None]
    x = pairs.lowered(pairs.scores - of_anchors)
    values = loss.penalty.value(x)
    if has is not None:
        values.mul_(has)
    valid = pairs.valid(columns)
    weight = term_weights(loss, None if valid is None else valid[None], pairs.positives[None])
    value = (values.sum() * weight).reshape(())
    if not gradient:
        return Slopes(value)
    slopes = loss.penalty.slope(x).mul_(weight)
    if has is not None:
        slopes.mul_(has)
    slopes.diagonal().sub_(pairs.side(slopes, columns).sum(1))
    return Slopes(value, slopes)
