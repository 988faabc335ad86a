"""Losses over labels on a small matrix: every (anchor, positive) pair against selected negatives."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from hardneg.negatives import Selection
from hardneg.ops.comparison import Comparison
from hardneg.ops.requests import LabelledLoss, PairSearch
from hardneg.ops.rounding import Ceilings
from hardneg.ops.small.chosen import Chosen, in_first_place
from hardneg.ops.small.chosen_terms import terms_of
from hardneg.ops.small.pairs import FAR
from hardneg.ops.small.relations import related
from hardneg.ops.small.slopes import Slopes
from hardneg.ops.small.weights import term_weights
from hardneg.ops.tiled.select_per_pair import select_per_pair
from hardneg.ops.tiled.top_k import first_k

if TYPE_CHECKING:
    from jaxtyping import Float, Int

__all__ = ["has_few_pairs", "labelled_loss"]

LISTED = 1 << 15
"""Pairs that are listed at once; the reductions take more of them in blocks."""
DIRECT = 1 << 19
"""Scores under bounds that are compared one by one; more are found in sorted rows."""


def has_few_pairs(comparison: Comparison) -> bool:
    """Whether the pairs of labelled rows are few enough to be listed at once; read on a CPU only."""
    relation = comparison.relation
    if comparison.queries.device.type != "cpu":
        return False
    if len(comparison.queries) * len(comparison.candidates) <= LISTED:
        return True
    if relation.positives is not None:
        return int(relation.positives.count_nonzero()) <= LISTED
    if relation.row_ids is None or relation.column_ids is None:
        return False
    return int((relation.row_ids[:, None] == relation.column_ids).count_nonzero()) <= LISTED


def labelled_loss(
    comparison: Comparison, scores: Float[Tensor, "n m"], loss: LabelledLoss, gradient: bool
) -> Slopes:
    """A loss over labels, and its derivatives where they are wanted."""
    selection = loss.negatives.selection(comparison.queries.shape[1])
    assert selection is not None
    pairs = related(comparison.relation, scores)
    anchors, positives = pairs.positive.nonzero().unbind(1)
    place = anchors * scores.shape[1] + positives
    p = scores.flatten().index_select(0, place)
    bounds = None
    if loss.negatives.ceiling is not None:
        bounds = Ceilings(loss.negatives.ceiling, comparison).over(anchors, positives, p)
    if bounds is not None and len(anchors) * scores.shape[1] > DIRECT:
        search = PairSearch(anchors, bounds, selection)
        chosen = listed(scores, anchors, select_per_pair(comparison, search))
    else:
        chosen = choose(scores, pairs.excluded, selection, anchors, bounds)
    terms = terms_of(chosen, p, loss)
    weights = term_weights(loss, chosen.valid, terms.values)
    value = (terms.values * weights).sum()
    if not gradient:
        return Slopes(value)
    slopes = (terms.by_negatives * weights)[0]
    by_scores = torch.zeros_like(scores)
    flat = by_scores.view(-1)
    flat.index_add_(0, place, slopes.sum(1).neg_())
    negatives = (anchors * scores.shape[1])[:, None] + chosen.places[0]
    flat.index_add_(0, negatives.flatten(), slopes.flatten())
    by_scale = None if terms.by_scale is None else (terms.by_scale * weights).sum()
    return Slopes(value, by_scores, by_scale)


def listed(
    scores: Float[Tensor, "n m"], anchors: Int[Tensor, "t"], index: Int[Tensor, "t k"]
) -> Chosen:
    """Negatives that are known by their indices, -1 for none."""
    there, index = index >= 0, index.clamp(min=0)
    found = torch.where(there, scores[anchors[:, None], index], 0.0)
    return Chosen(found[None], index[None], there.to(found.dtype)[None])


def choose(
    scores: Float[Tensor, "n m"],
    excluded: Float[Tensor, "n m"],
    selection: Selection,
    anchors: Int[Tensor, "t"],
    bounds: Float[Tensor, "t"] | None,
) -> Chosen:
    """The negatives of every pair: those of its anchor, below the bound of the pair where there is one.

    Args:
        excluded: 1 for what is no negative, else 0.
        anchors: the anchor of each pair.
    """
    keys = torch.sub(scores, excluded, alpha=FAR)
    if bounds is None:
        found, index = first_k(keys, selection.k)
        found, index = found.index_select(0, anchors), index.index_select(0, anchors)
    else:
        beyond = scores.index_select(0, anchors).ge_(bounds[:, None])
        within = keys.index_select(0, anchors).sub_(beyond, alpha=FAR)
        found, index = (
            within.max(1, keepdim=True) if selection.k == 1 else first_k(within, selection.k)
        )
    found, index = found[:, selection.skip :], index[:, selection.skip :]
    there = found > -FAR / 2
    if selection.fallback != "none":
        easiest = selection.fallback == "easiest"
        ranked = torch.sub(-scores, excluded, alpha=FAR) if easiest else keys
        other, place = (x.index_select(0, anchors) for x in ranked.max(1, keepdim=True))
        found, index, there = in_first_place((found, index, there), other, place, easiest)
    return Chosen(torch.where(there, found, 0.0)[None], index[None], there.to(found.dtype)[None])
