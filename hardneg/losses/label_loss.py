"""``LabelLoss``: losses on rows that belong together by their labels."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, overload

from torch import Tensor

from hardneg.losses.call import Call
from hardneg.losses.inputs import check_directions, compare_label_scores, compare_labelled
from hardneg.losses.keywords import refuse_unknown
from hardneg.losses.listed_loss import ListedLoss
from hardneg.losses.mined import MinedByLoss
from hardneg.losses.mining_statistics import MiningStatistics
from hardneg.losses.other_family import GIVEN, refuse_pairs
from hardneg.losses.terms.choices import choices_of_queries
from hardneg.losses.weights import check_label_weights
from hardneg.negatives import Negatives

if TYPE_CHECKING:
    from jaxtyping import Bool, Float, Int

__all__ = ["LabelLoss"]


class LabelLoss(ListedLoss):
    """Losses on labels: one set, or a set against a reference; equal labels are positives."""

    @overload
    def forward(
        self,
        embeddings: Tensor,
        labels: Tensor | None = None,
        reference: Tensor | None = None,
        reference_labels: Tensor | None = None,
        *,
        positive_mask: Tensor | None = None,
        ignore_mask: Tensor | None = None,
        same_set: bool = False,
        weights: Tensor | None = None,
        negatives: Negatives | str | None = None,
        return_stats: Literal[False] = False,
    ) -> Tensor: ...

    @overload
    def forward(
        self,
        embeddings: Tensor,
        labels: Tensor | None = None,
        reference: Tensor | None = None,
        reference_labels: Tensor | None = None,
        *,
        positive_mask: Tensor | None = None,
        ignore_mask: Tensor | None = None,
        same_set: bool = False,
        weights: Tensor | None = None,
        negatives: Negatives | str | None = None,
        return_stats: Literal[True],
    ) -> tuple[Tensor, MiningStatistics]: ...

    def forward(
        self,
        embeddings: Float[Tensor, "n d"] = GIVEN,
        labels: Int[Tensor, "n"] | None = None,
        reference: Float[Tensor, "m d"] | None = None,
        reference_labels: Int[Tensor, "m"] | None = None,
        *,
        positive_mask: Bool[Tensor, "n m"] | None = None,
        ignore_mask: Bool[Tensor, "n m"] | None = None,
        same_set: bool = False,
        weights: Float[Tensor, "n"] | None = None,
        negatives: Negatives | str | None = None,
        return_stats: bool = False,
        **renamed: Any,
    ) -> Any:
        """Compute the loss of a batch.

        Args:
            embeddings: n x d, the anchors.
            labels: n integers; equal labels are positives.
            reference: m x d, the candidates; None: the embeddings themselves, a row never its own positive.
            reference_labels: m integers.
            positive_mask: n x m mask of the pairs that belong together, instead of labels.
            ignore_mask: n x m mask of pairs left out.
            same_set: row i of the reference is the same sample as embedding i; it may have further rows.
            weights: n numbers, at least 0: a factor of the terms of embedding i as an anchor. A mean divides by the sum
                of the weights of its terms. No gradient. Of the queries alone.
            negatives: a strategy for this call alone, for schedules.
            return_stats: also return ``MiningStatistics``.

        Returns:
            A float32 (float64 for float64 inputs) scalar, or with ``reduction="none"`` the terms of the
            queries and those of the candidates; with ``return_stats`` a tuple of that and the statistics.

        Raises:
            ValueError, TypeError: naming the argument, what was expected, and what came.
        """
        if renamed:
            refuse_unknown(type(self).__name__, renamed)
        refuse_pairs(type(self).__name__, embeddings, labels, reference)
        check_directions(self.directions, reference)
        sides = embeddings, labels, reference, reference_labels
        comparison = compare_labelled(*sides, self.similarity, positive_mask, ignore_mask, same_set)
        check_label_weights(weights, embeddings, self.directions)
        return self.reduced(comparison, negatives, return_stats, weights=weights)

    if TYPE_CHECKING:
        __call__ = forward

    def term_pairs(
        self,
        embeddings: Float[Tensor, "n d"],
        labels: Int[Tensor, "n"] | None = None,
        reference: Float[Tensor, "m d"] | None = None,
        reference_labels: Int[Tensor, "m"] | None = None,
        *,
        positive_mask: Bool[Tensor, "n m"] | None = None,
        ignore_mask: Bool[Tensor, "n m"] | None = None,
        same_set: bool = False,
    ) -> tuple[Int[Tensor, "t 2"], Int[Tensor, "u 2"]]:
        """The (anchor, positive) pairs of the terms that ``reduction="none"`` returns, in their order.

        Takes the arguments of the call. Reads the number of positives from the device.

        Returns:
            Two t x 2 tensors of row numbers, for the terms of the queries and those of the candidates; empty for a
            direction that the loss does not have.

        Raises:
            ValueError: for losses with one term an anchor, in the order of the rows.
        """
        check_directions(self.directions, reference)
        sides = embeddings, labels, reference, reference_labels
        masks = positive_mask, ignore_mask, same_set
        return self.pairs_of(compare_labelled(*sides, self.similarity, *masks))

    def choices(self, call: Call) -> MinedByLoss:
        """See ``Loss``: of the anchors that have a positive."""
        return MinedByLoss(*call.in_directions(choices_of_queries))

    def mined(
        self,
        embeddings: Float[Tensor, "n d"],
        labels: Int[Tensor, "n"] | None = None,
        reference: Float[Tensor, "m d"] | None = None,
        reference_labels: Int[Tensor, "m"] | None = None,
        *,
        positive_mask: Bool[Tensor, "n m"] | None = None,
        ignore_mask: Bool[Tensor, "n m"] | None = None,
        same_set: bool = False,
        negatives: Negatives | str | None = None,
    ) -> MinedByLoss:
        """Find the negatives that the loss chooses, without a gradient.

        Args:
            embeddings, labels, reference, reference_labels, positive_mask, ignore_mask, same_set, negatives: as in the
                call itself. A random strategy draws what the call draws from the same state of torch's generator.

        Returns:
            ``MinedByLoss``: ``.queries`` and ``.candidates``, the choices of both directions, each with ``indices``,
            ``scores`` and ``counts`` as those of ``hardneg.mine``; a row for each (anchor, positive) pair where each
            has negatives of its own (``MinedTerms``). None for a direction that is not among the loss's.

        Raises:
            ValueError, TypeError: as the call itself; for strategies that select nothing, such as ``All()``.
        """
        check_directions(self.directions, reference)
        sides = embeddings, labels, reference, reference_labels
        comparison = compare_labelled(*sides, self.similarity, positive_mask, ignore_mask, same_set)
        return self.chosen(comparison, negatives)

    @overload
    def from_scores(
        self,
        scores: Tensor,
        labels: Tensor | None = None,
        reference_labels: Tensor | None = None,
        *,
        positive_mask: Tensor | None = None,
        ignore_mask: Tensor | None = None,
        same_set: bool | None = None,
        weights: Tensor | None = None,
        negatives: Negatives | str | None = None,
        return_stats: Literal[False] = False,
    ) -> Tensor: ...

    @overload
    def from_scores(
        self,
        scores: Tensor,
        labels: Tensor | None = None,
        reference_labels: Tensor | None = None,
        *,
        positive_mask: Tensor | None = None,
        ignore_mask: Tensor | None = None,
        same_set: bool | None = None,
        weights: Tensor | None = None,
        negatives: Negatives | str | None = None,
        return_stats: Literal[True],
    ) -> tuple[Tensor, MiningStatistics]: ...

    def from_scores(
        self,
        scores: Float[Tensor, "n m"],
        labels: Int[Tensor, "n"] | None = None,
        reference_labels: Int[Tensor, "m"] | None = None,
        *,
        positive_mask: Bool[Tensor, "n m"] | None = None,
        ignore_mask: Bool[Tensor, "n m"] | None = None,
        same_set: bool | None = None,
        weights: Float[Tensor, "n"] | None = None,
        negatives: Negatives | str | None = None,
        return_stats: bool = False,
    ) -> Any:
        """Compute the loss of scores that a model of your own computed.

        Args:
            scores: n x m, that of anchor i with candidate j. They rise with closeness: negate distances. What
                ``similarity`` would compute is not asked for.
            labels: n integers; equal labels are positives.
            reference_labels: m integers; None: those of the anchors, which are one set with the candidates.
            same_set: row i and column i are one sample, never compared; None: with labels, whether there are
                no ``reference_labels``. With a ``positive_mask`` say it.
            positive_mask, ignore_mask, weights, negatives, return_stats: as in the call itself.

        Returns:
            As the call itself; the gradient goes to the scores. One that is NaN or infinite makes the loss NaN:
            leave such pairs out by ``ignore_mask`` and finite scores in their place.

        Raises:
            ValueError, TypeError: as the call itself; for strategies that need the embeddings.
        """
        sides = labels, reference_labels, positive_mask, ignore_mask, same_set
        comparison = compare_label_scores(scores, *sides, self.directions)
        check_label_weights(weights, scores, self.directions)
        return self.reduced_scores(comparison, negatives, return_stats, weights)
