"""``PairLoss``: losses on rows that belong together by their places."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, overload

from torch import Tensor

from hardneg.losses.guide import check_guide
from hardneg.losses.inputs import compare_pair_scores
from hardneg.losses.keywords import refuse_unknown
from hardneg.losses.mining_statistics import MiningStatistics
from hardneg.losses.other_family import GIVEN, refuse_further
from hardneg.losses.own_negatives import own_negatives_of
from hardneg.losses.pair_choices import PairChoices
from hardneg.losses.weights import check_pair_weights
from hardneg.negatives import Ceiling, Negatives
from hardneg.positives import Paired

if TYPE_CHECKING:
    from jaxtyping import Bool, Float, Int

__all__ = ["PairLoss"]


class PairLoss(PairChoices):
    """Losses on pairs: row i of the queries and row i of the candidates belong together.

    Attributes:
        positives: ``Paired()``, or ``AllPositives()`` where every candidate of an anchor's id is a positive.
    """

    @overload
    def forward(
        self,
        queries: Tensor,
        candidates: Tensor,
        *,
        query_ids: Tensor | None = None,
        candidate_ids: Tensor | None = None,
        positive_mask: Tensor | None = None,
        ignore_mask: Tensor | None = None,
        own_negatives: Tensor | None = None,
        own_negative_ids: Tensor | None = None,
        own_ignore_mask: Tensor | None = None,
        share_negatives: bool = True,
        exempt_own_negatives: bool = False,
        guide: tuple[Tensor, Tensor] | None = None,
        guide_ceiling: Ceiling | None = None,
        weights: Tensor | None = None,
        negatives: Negatives | str | None = None,
        return_stats: Literal[False] = False,
    ) -> Tensor: ...

    @overload
    def forward(
        self,
        queries: Tensor,
        candidates: Tensor,
        *,
        query_ids: Tensor | None = None,
        candidate_ids: Tensor | None = None,
        positive_mask: Tensor | None = None,
        ignore_mask: Tensor | None = None,
        own_negatives: Tensor | None = None,
        own_negative_ids: Tensor | None = None,
        own_ignore_mask: Tensor | None = None,
        share_negatives: bool = True,
        exempt_own_negatives: bool = False,
        guide: tuple[Tensor, Tensor] | None = None,
        guide_ceiling: Ceiling | None = None,
        weights: Tensor | None = None,
        negatives: Negatives | str | None = None,
        return_stats: Literal[True],
    ) -> tuple[Tensor, MiningStatistics]: ...

    def forward(
        self,
        queries: Float[Tensor, "n d"] = GIVEN,
        candidates: Float[Tensor, "m d"] = GIVEN,
        *further: Any,
        query_ids: Int[Tensor, "n"] | None = None,
        candidate_ids: Int[Tensor, "m"] | None = None,
        positive_mask: Bool[Tensor, "n m"] | None = None,
        ignore_mask: Bool[Tensor, "n m"] | None = None,
        own_negatives: Float[Tensor, "n k d"] | None = None,
        own_negative_ids: Int[Tensor, "n k"] | None = None,
        own_ignore_mask: Bool[Tensor, "n k"] | None = None,
        share_negatives: bool = True,
        exempt_own_negatives: bool = False,
        guide: tuple[Tensor, Tensor] | None = None,
        guide_ceiling: Ceiling | None = None,
        weights: Float[Tensor, "n"] | None = None,
        negatives: Negatives | str | None = None,
        return_stats: bool = False,
        **renamed: Any,
    ) -> Any:
        """Compute the loss of a batch.

        Args:
            queries: n x d, row i belongs to candidate i.
            candidates: m x d, m >= n; those from n on are extra negatives of the queries.
            query_ids, candidate_ids: n and m integers; rows of equal ids are never negatives of each other.
            positive_mask: n x m mask of related pairs, instead of ids.
            ignore_mask: n x m mask of pairs left out.
            own_negatives: n x k x d, k further negatives of each query alone, such as mined ones. They take part as
                the candidates do: a strategy selects from both, a softmax adds up both. Candidates as anchors
                do not meet them.
            own_negative_ids: n x k integers; own negatives of their query's id are left out.
            own_ignore_mask: n x k mask of own negatives left out, such as the (finite) padding of shorter lists.
            share_negatives: False: the own negatives are the only ones, whatever the candidates.
            exempt_own_negatives: whether a strategy's ceiling and ``max_score`` leave them out of account.
            guide: another model's embeddings of the queries (n x g) and of the candidates (m x g): a candidate is a
                negative of an anchor only where their cosine there is below that of the anchor and its positive
                (GISTEmbed). Own negatives are not asked.
            guide_ceiling: another bound on it, relative to the positive's cosine; None: ``Ceiling()``.
            weights: n numbers, at least 0: a factor of the terms of query i and of candidate i. A mean divides by the
                sum of the weights of its terms. No gradient. With ``positives="all"`` of the queries alone.
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
        if further:
            refuse_further(type(self).__name__, queries, further)
        relation = query_ids, candidate_ids, positive_mask, ignore_mask
        comparison = self.compared(queries, candidates, relation)
        one_to_one = isinstance(self.positives, Paired)
        check_pair_weights(weights, queries, one_to_one, self.directions)
        told = check_guide(guide, guide_ceiling, queries, candidates)
        chosen = share_negatives, exempt_own_negatives
        listed = own_negatives, own_negative_ids, own_ignore_mask
        own = own_negatives_of(comparison, *listed, *chosen, self.directions)
        return self.reduced(comparison, negatives, return_stats, own, told, weights)

    if TYPE_CHECKING:
        __call__ = forward

    @overload
    def from_scores(
        self,
        scores: Tensor,
        *,
        query_ids: Tensor | None = None,
        candidate_ids: Tensor | None = None,
        positive_mask: Tensor | None = None,
        ignore_mask: Tensor | None = None,
        weights: Tensor | None = None,
        negatives: Negatives | str | None = None,
        return_stats: Literal[False] = False,
    ) -> Tensor: ...

    @overload
    def from_scores(
        self,
        scores: Tensor,
        *,
        query_ids: Tensor | None = None,
        candidate_ids: Tensor | None = None,
        positive_mask: Tensor | None = None,
        ignore_mask: Tensor | None = None,
        weights: Tensor | None = None,
        negatives: Negatives | str | None = None,
        return_stats: Literal[True],
    ) -> tuple[Tensor, MiningStatistics]: ...

    def from_scores(
        self,
        scores: Float[Tensor, "n m"],
        *,
        query_ids: Int[Tensor, "n"] | None = None,
        candidate_ids: Int[Tensor, "m"] | None = None,
        positive_mask: Bool[Tensor, "n m"] | None = None,
        ignore_mask: Bool[Tensor, "n m"] | None = None,
        weights: Float[Tensor, "n"] | None = None,
        negatives: Negatives | str | None = None,
        return_stats: bool = False,
        **unknown: Any,
    ) -> Any:
        """Compute the loss of scores that a model of your own computed: cross-attention, late interaction, a reranker.

        Args:
            scores: n x m, that of query i with candidate j; candidate i belongs to query i, m >= n. They rise with
                closeness: negate distances. What ``similarity`` would compute is not asked for.
            query_ids, candidate_ids, positive_mask, ignore_mask, weights, negatives, return_stats: as in the call
                itself.

        Returns:
            As the call itself; the gradient goes to the scores. One that is NaN or infinite makes the loss NaN:
            leave such pairs out by ``ignore_mask`` and finite scores in their place.

        Raises:
            ValueError, TypeError: as the call itself; for strategies that need the embeddings.
        """
        refuse_unknown(f"{type(self).__name__}.from_scores", unknown)
        relation = query_ids, candidate_ids, positive_mask, ignore_mask
        one_to_one = isinstance(self.positives, Paired)
        comparison = compare_pair_scores(scores, *relation, one_to_one=one_to_one)
        check_pair_weights(weights, scores, one_to_one, self.directions)
        return self.reduced_scores(comparison, negatives, return_stats, weights)
