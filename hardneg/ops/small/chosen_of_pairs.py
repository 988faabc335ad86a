"""The negatives of listed (anchor, positive) pairs over a small matrix."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor

from hardneg.negatives import Selection
from hardneg.ops.comparison import Comparison
from hardneg.ops.loss_requests import LabelledLoss
from hardneg.ops.requests import PairSearch
from hardneg.ops.rounding import Ceilings
from hardneg.ops.small.chosen import Chosen, in_first_place
from hardneg.ops.small.pairs import FAR
from hardneg.ops.tiled.select_per_pair import select_per_pair
from hardneg.ops.tiled.top_k import first_k

if TYPE_CHECKING:
    from jaxtyping import Float, Int

__all__ = ["DIRECT", "Listed", "choose", "every_negative"]

DIRECT = 1 << 19
"""Scores under bounds that are compared one by one; more are found in sorted rows."""


class Listed(NamedTuple):
    """Pairs, one by one.

    Attributes:
        anchors, positives: rows and columns.
        scores: of the pairs.
    """

    anchors: Int[Tensor, "t"]
    positives: Int[Tensor, "t"]
    scores: Float[Tensor, "t"]


def every_negative(
    scores: Float[Tensor, "n m"], excluded: Float[Tensor, "n m"], pairs: Listed
) -> Chosen:
    """All candidates of every pair's anchor; those that are its negatives are there."""
    there = (1 - excluded).index_select(0, pairs.anchors)
    places = torch.arange(scores.shape[1], device=scores.device).expand_as(there)
    found = scores.index_select(0, pairs.anchors)
    return Chosen(found[None], places[None], there[None], there.amax(1)[None])


def choose(
    comparison: Comparison,
    scores: Float[Tensor, "n m"],
    excluded: Float[Tensor, "n m"],
    pairs: Listed,
    loss: LabelledLoss,
) -> Chosen:
    """The negatives that a strategy selects for every pair, under its ceiling where there is one.

    Args:
        excluded: 1 for what is no negative, else 0.
    """
    selection = loss.negatives.selection(comparison.queries.shape[1])
    if selection is None:
        return every_negative(scores, excluded, pairs)
    bounds = None
    if loss.negatives.ceiling is not None:
        bounds = Ceilings(loss.negatives.ceiling, comparison).over(*pairs)
        if len(pairs.anchors) * scores.shape[1] > DIRECT:
            search = PairSearch(pairs.anchors, bounds, selection)
            return by_index(scores, pairs.anchors, select_per_pair(comparison, search))
    return selected(scores, excluded, selection, pairs.anchors, bounds)


def by_index(
    scores: Float[Tensor, "n m"], anchors: Int[Tensor, "t"], index: Int[Tensor, "t k"]
) -> Chosen:
    """Negatives that are known by their indices, -1 for none."""
    there, index = index >= 0, index.clamp(min=0)
    found = torch.where(there, scores[anchors[:, None], index], 0.0)
    return Chosen(found[None], index[None], there.to(found.dtype)[None])


def selected(
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
