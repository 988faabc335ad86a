"""The negatives that a strategy selects from a small matrix."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor

from hardneg.negatives import Ceiling, Selection
from hardneg.ops.comparison import Comparison
from hardneg.ops.rounding import Ceilings
from hardneg.ops.small.pairs import FAR, Pairs
from hardneg.ops.tiled.top_k import first_k

if TYPE_CHECKING:
    from jaxtyping import Float, Int

__all__ = ["Choices", "Chosen", "in_first_place"]


class Chosen(NamedTuple):
    """The negatives of the anchors of some directions, or of one.

    Attributes:
        scores: of the negatives.
        places: which they are.
        there: 1 where there is one, else 0; None where every place holds one.
        some: 1 for an anchor with a negative; None where the first place tells.
    """

    scores: Float[Tensor, "s n k"]
    places: Int[Tensor, "s n k"]
    there: Float[Tensor, "s n k"] | None
    some: Float[Tensor, "s n"] | None = None

    @property
    def valid(self) -> Float[Tensor, "s n"] | None:
        """1 for an anchor with a negative, None where all have one."""
        if self.some is not None:
            return self.some
        return None if self.there is None else self.there[..., 0]


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
        cls, comparison: Comparison, pairs: Pairs, ceiling: Ceiling | None, selection: Selection
    ) -> Choices:
        """The choices under a ceiling."""
        bounds = None
        if ceiling is not None:
            own = torch.arange(len(pairs.scores), device=pairs.scores.device)
            bounds = Ceilings(ceiling, comparison).over(own, own, pairs.positives)
        return cls(pairs, selection, pairs.lowered(pairs.scores.clone()), bounds)

    def of_sides(self, sides: tuple[bool, ...]) -> Chosen:
        """The negatives of the directions' anchors."""
        found = [self.of_side(columns) for columns in sides]
        masks = [each.there for each in found if each.there is not None]
        return Chosen(
            torch.stack([each.scores for each in found]),
            torch.stack([each.places for each in found]),
            torch.stack(masks) if masks else None,
        )

    def of_side(self, columns: bool) -> Chosen:
        """The negatives of one direction's anchors."""
        pairs, k, within = self.pairs, self.selection.k, self.pairs.side(self.keys, columns)
        if self.bounds is not None:
            beyond = pairs.side(pairs.scores, columns).clone().ge_(self.bounds[:, None])
            within = torch.sub(within, beyond, alpha=FAR)
        found, index = within.max(1, keepdim=True) if k == 1 else self.first(within)
        if pairs.excluded is None and self.bounds is None and k < len(pairs.scores):
            return Chosen(found, index, None)
        there = found > -FAR / 2
        if self.selection.fallback != "none":
            found, index, there = self.with_fallback(found, index, there, columns)
        present = there.to(found.dtype)
        if pairs.has is not None:
            present = present * pairs.has[:, None]
        return Chosen(torch.where(there, found, 0.0), index, present)

    def first(self, within: Float[Tensor, "n r"]) -> tuple[Tensor, Tensor]:
        """The first k of every row, as many places in both directions."""
        k, skip = self.selection.k, self.selection.skip
        found, index = first_k(within.contiguous(), k)
        empty = min(k, self.keys.shape[1]) - found.shape[1]
        if empty:
            pad = torch.nn.functional.pad
            found, index = pad(found, (0, empty), value=-FAR), pad(index, (0, empty))
        return (found[:, skip:], index[:, skip:]) if skip else (found, index)

    def with_fallback(
        self, found: Tensor, index: Tensor, there: Tensor, columns: bool
    ) -> tuple[Tensor, Tensor, Tensor]:
        """The fallback in the first place of the anchors that selected nothing."""
        if found.device.type == "cpu" and bool(there[:, 0].all()):
            return found, index, there
        easiest = self.selection.fallback == "easiest"
        ranked = self.pairs.lowered(self.pairs.scores.neg()) if easiest else self.keys
        other, place = self.pairs.side(ranked, columns).max(1, keepdim=True)
        return in_first_place((found, index, there), other, place, easiest)


def in_first_place(
    chosen: tuple[Tensor, Tensor, Tensor], keys: Tensor, index: Tensor, easiest: bool
) -> tuple[Tensor, Tensor, Tensor]:
    """What was chosen, with a fallback in the first place of the anchors that selected nothing.

    Args:
        keys: of the fallback: its score, or with ``easiest`` the negated score.
    """
    other, some = keys.neg() if easiest else keys, keys > -FAR / 2
    found, places, there = (x[:, :1] for x in chosen)
    first = torch.where(there, found, other), torch.where(there, places, index), there | some
    if chosen[0].shape[1] == 1:
        return first
    one, two, three = (torch.cat([x, y[:, 1:]], 1) for x, y in zip(first, chosen, strict=True))
    return one, two, three
