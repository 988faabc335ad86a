"""The negatives of listed (anchor, positive) pairs over a small matrix."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor

from hardneg.negatives import Selection
from hardneg.ops.comparison import Comparison
from hardneg.ops.loss_requests import LabelledLoss
from hardneg.ops.requests import PairSearch
from hardneg.ops.small.chosen import Chosen, all_found, below, bounds_of, in_first_place
from hardneg.ops.small.pairs import FAR
from hardneg.ops.tiled.select_per_pair import select_per_pair
from hardneg.ops.tiled.top_k import first_k

if TYPE_CHECKING:
    from jaxtyping import Float, Int

__all__ = ["DIRECT", "Listed", "choose"]

DIRECT = 1 << 19
"""Scores under bounds that are compared one by one; more are found in sorted rows."""


class Listed(NamedTuple):
    """Pairs, one by one.

    Attributes:
        anchors: rows; None where there is one pair of every row, in their order.
        places: in the flattened matrix, or with one pair of every row their columns.
        scores: of the pairs; far above all scores where a row has none.
    """

    anchors: Int[Tensor, "t"] | None
    places: Int[Tensor, "t"]
    scores: Float[Tensor, "t"]

    def of_anchors(self, x: Tensor) -> Tensor:
        """The rows of the pairs' anchors."""
        return x if self.anchors is None else x.index_select(0, self.anchors)

    def indices(self, width: int) -> tuple[Int[Tensor, "t"], Int[Tensor, "t"]]:
        """Rows and columns of the pairs in a matrix of that width."""
        if self.anchors is None:
            return torch.arange(len(self.places), device=self.places.device), self.places
        return self.anchors, self.places % width


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
    keys = torch.sub(scores, excluded, alpha=FAR)
    if selection is None:
        places = torch.arange(scores.shape[1], device=scores.device)
        found = pairs.of_anchors(keys)
        return Chosen(found[None], places.expand_as(found)[None], ranked=False)
    if loss.negatives.ceiling is None:
        best = keys.max(1, keepdim=True) if selection.k == 1 else first_k(keys, selection.k)
        found, index = (pairs.of_anchors(x)[:, selection.skip :] for x in best)
        return Chosen(found[None], index[None])
    anchors, positives = pairs.indices(scores.shape[1])
    bounds = bounds_of(comparison, loss, anchors, positives, pairs.scores)
    if len(anchors) * scores.shape[1] > DIRECT:
        if loss.scale is not None:
            bounds = bounds / loss.scale
        search = PairSearch(anchors, bounds, selection)
        return by_index(scores, anchors, select_per_pair(comparison, search))
    return under_bounds(scores, keys, pairs, bounds, selection)


def by_index(
    scores: Float[Tensor, "n m"], anchors: Int[Tensor, "t"], index: Int[Tensor, "t k"]
) -> Chosen:
    """Negatives that are known by their indices, -1 for none."""
    there, index = index >= 0, index.clamp(min=0)
    found = torch.where(there, scores[anchors[:, None], index], -FAR)
    return Chosen(found[None], index[None])


def under_bounds(
    scores: Float[Tensor, "n m"],
    keys: Float[Tensor, "n m"],
    pairs: Listed,
    bounds: Float[Tensor, "t"],
    selection: Selection,
) -> Chosen:
    """The negatives of every pair below its bound.

    Args:
        keys: the scores, those of what is no negative far below.
    """
    within = below(pairs.of_anchors(keys), bounds)
    best = within.max(1, keepdim=True) if selection.k == 1 else first_k(within, selection.k)
    found, index = (x[:, selection.skip :] for x in best)
    if selection.fallback != "none" and not all_found(found):
        easiest = selection.fallback == "easiest"
        ranked = torch.where(keys > -FAR / 2, scores.neg(), keys) if easiest else keys
        other, place = (pairs.of_anchors(x) for x in ranked.max(1, keepdim=True))
        found, index = in_first_place((found, index), (other, place), easiest)
    return Chosen(found[None], index[None])
