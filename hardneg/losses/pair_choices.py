"""``PairChoices``: what losses on pairs tell beside their value: which negatives they choose, which pair a term is."""

from __future__ import annotations

from typing import TYPE_CHECKING, Unpack

from torch import Tensor

from hardneg.losses.call import Call
from hardneg.losses.guide import check_guide
from hardneg.losses.inputs import compare_pairs
from hardneg.losses.keywords import refuse_unknown
from hardneg.losses.loss import Loss
from hardneg.losses.mined import (
    MinedByLoss,
    PairArguments,
    Related,
    own_negatives_in,
    relation_in,
)
from hardneg.losses.other_family import refuse_labels
from hardneg.losses.own_negatives import own_negatives_of
from hardneg.losses.terms.choices import choices_of_pairs, paired_choices
from hardneg.negatives import Negatives
from hardneg.ops.comparison import Comparison
from hardneg.positives import Paired, Positives

if TYPE_CHECKING:
    from jaxtyping import Bool, Float, Int

__all__ = ["PairChoices"]


class PairChoices(Loss):
    """Base of ``PairLoss``.

    Attributes:
        positives: ``Paired()``, or ``AllPositives()`` where every candidate of an anchor's id is a positive.
    """

    positives: Positives = Paired()

    def compared(
        self,
        queries: Tensor,
        candidates: Tensor,
        relation: Related,
    ) -> Comparison:
        """The comparison of two sides, whose ids and masks say who is related."""
        refuse_labels(type(self).__name__, queries, candidates)
        one_to_one = isinstance(self.positives, Paired)
        given = queries, candidates, self.similarity, *relation
        return compare_pairs(*given, one_to_one=one_to_one)

    def choices(self, call: Call) -> MinedByLoss:
        """See ``Loss``."""
        if isinstance(self.positives, Paired):
            return paired_choices(call, call.own_positive())
        return MinedByLoss(*call.in_directions(choices_of_pairs))

    def mined(
        self,
        queries: Float[Tensor, "n d"],
        candidates: Float[Tensor, "m d"],
        *,
        negatives: Negatives | str | None = None,
        **given: Unpack[PairArguments],
    ) -> MinedByLoss:
        """Find the negatives that the loss chooses, without a gradient.

        Args:
            queries, candidates, negatives: as in the call itself.
            given: as in the call itself: ids and masks, own negatives, a guide. A random strategy draws what the call
                draws from the same state of torch's generator.

        Returns:
            ``MinedByLoss``: ``.queries`` and ``.candidates``, the choices of both directions, each with ``indices``,
            ``scores`` and ``counts`` as those of ``hardneg.mine``, and the ``positives``; None for a direction that
            is not among the loss's.

        Raises:
            ValueError, TypeError: as the call itself; for strategies that select nothing, such as ``All()``.
        """
        names = PairArguments.__annotations__
        unknown = {name: x for name, x in given.items() if name not in names}
        refuse_unknown(f"{type(self).__name__}.mined", unknown)
        comparison = self.compared(queries, candidates, relation_in(given))
        own = own_negatives_of(comparison, *own_negatives_in(given), self.directions)
        told = check_guide(given.get("guide"), given.get("guide_ceiling"), queries, candidates)
        return self.chosen(comparison, negatives, own, told)

    def term_pairs(
        self,
        queries: Float[Tensor, "n d"],
        candidates: Float[Tensor, "m d"],
        *,
        query_ids: Int[Tensor, "n"] | None = None,
        candidate_ids: Int[Tensor, "m"] | None = None,
        positive_mask: Bool[Tensor, "n m"] | None = None,
        ignore_mask: Bool[Tensor, "n m"] | None = None,
    ) -> tuple[Int[Tensor, "t 2"], Int[Tensor, "u 2"]]:
        """The (anchor, positive) pairs of the terms that ``reduction="none"`` returns, in their order.

        Takes the arguments of the call. Reads the number of positives from the device.

        Returns:
            Two t x 2 tensors of row numbers, for the terms of the queries and those of the candidates; empty for a
            direction that the loss does not have.

        Raises:
            ValueError: for losses with one term an anchor, in the order of the rows.
        """
        relation = query_ids, candidate_ids, positive_mask, ignore_mask
        return self.pairs_of(self.compared(queries, candidates, relation))
