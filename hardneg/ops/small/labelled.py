"""Losses over labels on a small matrix: every (anchor, positive) pair against negatives of the anchor."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from hardneg.ops.comparison import Comparison
from hardneg.ops.loss_requests import LabelledLoss
from hardneg.ops.small.chosen import Chosen
from hardneg.ops.small.chosen_of_pairs import DIRECT, Listed, choose
from hardneg.ops.small.chosen_terms import knows_terms, terms_of
from hardneg.ops.small.every_positive import every_positive_loss
from hardneg.ops.small.pairs import FAR
from hardneg.ops.small.relations import related
from hardneg.ops.small.slopes import Slopes
from hardneg.ops.small.weights import by_margin, term_weights

if TYPE_CHECKING:
    from jaxtyping import Float

__all__ = ["knows_labelled", "labelled_loss"]

LISTED = 1 << 15
"""Pairs that are listed at once; the reductions take more of them in blocks."""
POSITIVES = 8
"""Up to how many positives an anchor, on the average, every pair is put beside all negatives of its anchor."""


def knows_labelled(loss: LabelledLoss, comparison: Comparison) -> bool:
    """A softmax over all negatives; or pairs of the queries that can be listed, on a CPU."""
    complete = loss.negatives.complete
    if complete and loss.negatives.ceiling is not None:
        return False
    if complete and loss.penalty is None:
        return True
    if loss.candidates or not knows_terms(loss, comparison):
        return False
    if loss.order is not None:
        return bool(comparison.queries.device.type == "cpu")
    n, m = len(comparison.queries), len(comparison.candidates)
    return has_few_pairs(comparison, min(POSITIVES * n, DIRECT // m) if complete else LISTED)


def has_few_pairs(comparison: Comparison, most: int) -> bool:
    """Whether the pairs of labelled rows are few enough to be listed at once; read on a CPU only."""
    relation = comparison.relation
    if comparison.queries.device.type != "cpu":
        return False
    if len(comparison.queries) * len(comparison.candidates) <= most:
        return True
    if relation.positives is not None:
        return int(relation.positives.count_nonzero()) <= most
    if relation.row_ids is None or relation.column_ids is None:
        return False
    return int((relation.row_ids[:, None] == relation.column_ids).count_nonzero()) <= most


def labelled_loss(
    comparison: Comparison, scores: Float[Tensor, "n m"], loss: LabelledLoss, gradient: bool
) -> Slopes:
    """A loss over labels, and its derivatives where they are wanted."""
    if loss.negatives.complete and loss.penalty is None:
        return every_positive_loss(comparison, scores, loss, gradient)
    pairs = related(comparison.relation, scores)
    listed = positives_of(scores, pairs.positive, loss.order)
    chosen = choose(comparison, scores, pairs.excluded, listed, loss)
    terms = terms_of(chosen, listed.scores, loss)
    weights = term_weights(loss, chosen.valid(listed.scores), terms.values)
    value = (terms.values * weights).sum()
    if not gradient:
        return Slopes(value)
    slopes = (terms.by_negatives * weights)[0]
    of_positives = slopes.sum(1, keepdim=True)
    by_scores = spread(scores, listed, chosen, slopes, of_positives.neg())
    return Slopes(value, by_scores, by_margin(loss, of_positives))


def spread(
    scores: Float[Tensor, "n m"],
    listed: Listed,
    chosen: Chosen,
    by_negatives: Float[Tensor, "t k"],
    by_positives: Float[Tensor, "t 1"],
) -> Float[Tensor, "n m"]:
    """The derivatives by all scores, from those by the scores of pairs and of their negatives."""
    by_scores, places = torch.zeros_like(scores), chosen.places[0]
    if listed.anchors is None:
        by_scores.scatter_add_(1, places, by_negatives)
        return by_scores.scatter_add_(1, listed.places[:, None], by_positives)
    flat = by_scores.view(-1)
    flat.index_add_(0, listed.places, by_positives[:, 0])
    if not chosen.ranked:  # all of a row
        return by_scores.index_add_(0, listed.anchors, by_negatives)
    first = listed.anchors[:, None] * scores.shape[1]
    flat.index_add_(0, (first + places).flatten(), by_negatives.flatten())
    return by_scores


def positives_of(
    scores: Float[Tensor, "n m"], positive: Float[Tensor, "n m"], order: str | None
) -> Listed:
    """The pairs of anchors with their positives: all of them, or one an anchor, of the lowest or highest score."""
    if order is None:
        places = positive.flatten().nonzero()[:, 0]
        anchors = torch.div(places, scores.shape[1], rounding_mode="floor")
        return Listed(anchors, places, scores.flatten().index_select(0, places))
    if order == "lowest":
        found, places = torch.add(scores, 1 - positive, alpha=FAR).min(1)
    else:
        found, places = torch.sub(scores, 1 - positive, alpha=FAR).max(1)
        found = torch.where(found < -FAR / 2, FAR, found)
    return Listed(None, places, found)
