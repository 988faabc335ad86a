"""Hadsell's contrastive loss on labelled pairs."""

from __future__ import annotations

from functools import partial

from hardneg.checks import check_number
from hardneg.losses.base import BackendName, Directions, LabelLoss, Reduction
from hardneg.losses.call import Call
from hardneg.losses.mined import MinedByLoss
from hardneg.losses.terms.choices import choices_of_queries
from hardneg.losses.terms.pairs import PairThresholds, as_vector, mean_of_kinds
from hardneg.losses.terms.reduction import Both, Terms
from hardneg.negatives import Negatives, NegativesName
from hardneg.ops.loss_requests import EveryPairLoss
from hardneg.ops.scores import Backend
from hardneg.penalties import Penalty, PenaltyName, resolve_penalty
from hardneg.similarities import Similarity, SimilarityName, is_distance

__all__ = ["PairwiseContrastiveLoss"]


class PairwiseContrastiveLoss(LabelLoss):
    """Hadsell's contrastive loss: pulls positive pairs together, pushes negative ones beyond a margin.

    The visual-semantic loss is ``ContrastiveLoss``. With distances d: ``phi(d - positive_margin)`` over
    positive pairs plus ``phi(negative_margin - d)`` over negative ones. With scores s (cosine, dot):
    ``phi(positive_margin - s)`` plus ``phi(s - negative_margin)``, so that ``positive_margin=1,
    negative_margin=0`` is the usual choice. Dense equivalent of the default::

        d = torch.cdist(embeddings, embeddings)
        same = labels[:, None] == labels[None]
        loss = d[same & ~eye(n)].square().mean() + (1 - d[~same]).clamp(min=0).square().mean()

    Args:
        positive_margin, negative_margin: in units of the distance, or of the score.
        negatives: ``"all"``, or a selection of each anchor's; a ceiling is that of its highest-scoring positive.
        similarity: by name, object or callable (taken as a score).
        penalty: ``"squared_hinge"`` (Hadsell's, without his factor 1/2), ``"hinge"``, ``"logistic"``, or an object.
        directions: with a reference, ``"queries"`` (embeddings are the anchors), ``"candidates"`` or
            ``"both"`` (added).
        reduction: ``"mean"``: mean over positive pairs plus mean over negative pairs; ``"mean_active"``: the
            same over non-zero pairs; ``"sum"``; ``"none"``: sums by anchor.
        backend: ``"auto"``, ``"dense"``, ``"tiled"``, ``"triton"`` or an object such as ``Tiled()``.

    Source: Hadsell, Chopra, LeCun, "Dimensionality Reduction by Learning an Invariant Mapping", CVPR 2006.

    Example:
        >>> loss = PairwiseContrastiveLoss(negative_margin=1.0)
        >>> value = loss(torch.randn(32, 16), torch.arange(32) // 4)
    """

    def __init__(
        self,
        positive_margin: float = 0.0,
        negative_margin: float = 1.0,
        negatives: Negatives | NegativesName = "all",
        similarity: Similarity | SimilarityName = "euclidean",
        *,
        penalty: Penalty | PenaltyName = "squared_hinge",
        directions: Directions = "queries",
        reduction: Reduction = "mean",
        backend: BackendName | Backend = "auto",
    ) -> None:
        super().__init__(negatives, similarity, directions, reduction, backend)
        self.positive_margin = check_number("positive_margin", positive_margin)
        self.negative_margin = check_number("negative_margin", negative_margin)
        self.penalty = resolve_penalty(penalty)

    def whole(self, call: Call) -> EveryPairLoss:
        """The penalties of every pair."""
        sign = -1.0 if is_distance(self.similarity) else 1.0
        return call.whole(
            EveryPairLoss,
            positive=sign * self.positive_margin,
            negative=sign * self.negative_margin,
            penalty=self.penalty,
            apart=True,
        )

    def choices(self, call: Call) -> MinedByLoss:
        """See ``Loss``: negative pairs count whether there is a positive or not."""
        return MinedByLoss(*call.in_directions(partial(choices_of_queries, need_positive=False)))

    def terms(self, call: Call) -> Both:
        """Positive and negative pairs of every anchor."""
        return call.in_directions(self.of_queries)

    def of_queries(self, call: Call) -> Terms:
        """The pairs of every query; a score that is a negated distance is below minus the margin."""
        sign = -1.0 if is_distance(self.similarity) else 1.0
        margins = self.positive_margin, self.negative_margin
        positive, negative = (sign * as_vector("margins", margin, call) for margin in margins)
        return mean_of_kinds(call, PairThresholds(positive, negative, self.penalty))
