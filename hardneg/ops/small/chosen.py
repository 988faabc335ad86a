"""The negatives that a strategy selects from a small matrix."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor

from hardneg.negatives import Selection
from hardneg.ops.comparison import Comparison
from hardneg.ops.loss_requests import LossAgainstNegatives, PairedLoss
from hardneg.ops.rounding import Ceilings
from hardneg.ops.small.pairs import FAR, Pairs
from hardneg.ops.tiled.top_k import first_k

if TYPE_CHECKING:
    from jaxtyping import Bool, Float, Int

__all__ = ["Choices", "Chosen", "all_found", "below", "in_first_place"]

TOGETHER = 64
"""Up to how many rows both sides are ranked in one call, which takes a copy of their scores."""


class Chosen(NamedTuple):
    """The negatives of the anchors of some directions, or of one.

    Attributes:
        scores: of the negatives; far below all scores where there is none.
        places: which they are.
        complete: whether every place is known to hold one.
        ranked: whether the highest stands in the first place.
    """

    scores: Float[Tensor, "s n k"]
    places: Int[Tensor, "s n k"]
    complete: bool = False
    ranked: bool = True

    def valid(self, positives: Float[Tensor, "n"]) -> Bool[Tensor, "s n"] | None:
        """Which anchors have a negative, and a positive that is not far above all scores; None for all."""
        if self.complete:
            return None
        highest = self.scores[..., 0] if self.ranked else self.scores.amax(2)
        return highest - positives > -FAR / 2


def bounds_of(
    comparison: Comparison,
    loss: LossAgainstNegatives,
    anchors: Int[Tensor, "t"],
    positives: Int[Tensor, "t"],
    scores: Float[Tensor, "t"],
) -> Float[Tensor, "t"]:
    """The bounds that a ceiling sets over positives with these scaled scores, for scaled scores."""
    assert loss.negatives.ceiling is not None
    ceilings, scale = Ceilings(loss.negatives.ceiling, comparison), loss.scale
    if scale is None:
        return ceilings.over(anchors, positives, scores)
    return ceilings.over(anchors, positives, scores / scale).mul_(scale)


@dataclass(frozen=True, eq=False)
class Choices:
    """What a strategy selects for the anchors of both sides, highest first.

    Attributes:
        pairs: the scores, and who takes part.
        selection: how many, from which place on, and what where there are none.
        keys: the scores, those of what is no negative far below.
        bounds: on the scores of each pair's negatives; None for none.
    """

    pairs: Pairs
    selection: Selection
    keys: Float[Tensor, "n m"]
    bounds: Float[Tensor, "n"] | None

    @classmethod
    def of(
        cls, comparison: Comparison, pairs: Pairs, loss: PairedLoss, selection: Selection
    ) -> Choices:
        """The choices of a loss."""
        bounds = None
        if loss.negatives.ceiling is not None:
            own = torch.arange(len(pairs.scores), device=pairs.scores.device)
            bounds = bounds_of(comparison, loss, own, own, pairs.positives)
        return cls(pairs, selection, pairs.lowered(pairs.scores.clone()), bounds)

    def of_sides(self, sides: tuple[bool, ...]) -> Chosen:
        """The negatives of the directions' anchors."""
        pairs, bounds, k = self.pairs, self.bounds, self.selection.k
        complete = pairs.excluded is None and bounds is None and k < len(pairs.scores)
        if (
            k > 1
            and bounds is None
            and len(sides) == 2
            and self.keys.shape[0] == self.keys.shape[1] <= TOGETHER
        ):
            both = self.first(torch.stack((self.keys, self.keys.t())).flatten(0, 1))
            scores, places = (x.unflatten(0, (2, -1)) for x in both)
        else:
            found = [self.of_side(columns) for columns in sides]
            scores, places = (torch.stack(x) for x in zip(*found, strict=True))
        return Chosen(scores, places, complete)

    def of_side(self, columns: bool) -> tuple[Float[Tensor, "n k"], Int[Tensor, "n k"]]:
        """The scores and places of one direction's negatives."""
        pairs, within = self.pairs, self.pairs.side(self.keys, columns)
        if self.bounds is None:
            return self.first(within)
        chosen = self.first(below(within, self.bounds))
        if self.selection.fallback == "none" or all_found(chosen[0]):
            return chosen
        easiest = self.selection.fallback == "easiest"
        ranked = pairs.lowered(pairs.scores.neg()) if easiest else self.keys
        return in_first_place(chosen, pairs.side(ranked, columns).max(1, keepdim=True), easiest)

    def first(
        self, within: Float[Tensor, "n r"]
    ) -> tuple[Float[Tensor, "n k"], Int[Tensor, "n k"]]:
        """The first k of every row, as many places in both directions."""
        k, skip = self.selection.k, self.selection.skip
        if k == 1:
            return within.max(1, keepdim=True)
        found, index = first_k(within.contiguous(), k)
        empty = min(k, self.keys.shape[1]) - found.shape[1]
        if empty:
            pad = torch.nn.functional.pad
            found, index = pad(found, (0, empty), value=-FAR), pad(index, (0, empty))
        return (found[:, skip:], index[:, skip:]) if skip else (found, index)


def below(scores: Float[Tensor, "t r"], bounds: Float[Tensor, "t"]) -> Float[Tensor, "t r"]:
    """The scores, those at or above the bound of their row far lower."""
    beyond = torch.ge(scores, bounds[:, None], out=torch.empty_like(scores))
    return torch.sub(scores, beyond, alpha=FAR)


def all_found(scores: Float[Tensor, "n k"]) -> bool:
    """Whether every anchor has a negative; read on a CPU only."""
    if scores.device.type != "cpu":
        return False
    return len(scores) == 0 or scores[:, 0].amin().item() > -FAR / 2


def in_first_place(
    chosen: tuple[Tensor, Tensor], fallback: tuple[Tensor, Tensor], easiest: bool
) -> tuple[Float[Tensor, "n k"], Int[Tensor, "n k"]]:
    """What was chosen, with a fallback in the first place of the anchors that selected nothing.

    Args:
        chosen: scores and places.
        fallback: its score, or with ``easiest`` the negated score; and its place.
    """
    (other, place), (found, places) = fallback, (x[:, :1] for x in chosen)
    if easiest:
        other = torch.where(other > -FAR / 2, other.neg(), other)
    there = found > -FAR / 2
    first = torch.where(there, found, other), torch.where(there, places, place)
    if chosen[0].shape[1] == 1:
        return first
    one, two = (torch.cat([x, y[:, 1:]], 1) for x, y in zip(first, chosen, strict=True))
    return one, two
