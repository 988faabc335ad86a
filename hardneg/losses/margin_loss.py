"""Margin loss with a boundary that may be learned."""

from __future__ import annotations

from functools import partial

from torch import Tensor

from hardneg.checks import check_number
from hardneg.losses.base import BackendName, Directions, LabelLoss, Reduction
from hardneg.losses.call import Call
from hardneg.losses.mined import MinedByLoss
from hardneg.losses.scalars import Learned
from hardneg.losses.terms.choices import choices_of_queries
from hardneg.losses.terms.pairs import PairThresholds, as_vector, mean_of_kinds
from hardneg.losses.terms.reduction import Both, Terms
from hardneg.negatives import Negatives, NegativesName
from hardneg.ops.loss_requests import EveryPairLoss
from hardneg.ops.scores import Backend
from hardneg.penalties import Hinge
from hardneg.similarities import Euclidean, Similarity, SimilarityName, SquaredEuclidean

__all__ = ["MarginLoss"]


class MarginLoss(LabelLoss):
    """Margin loss: positives nearer than ``beta - margin``, negatives farther than ``beta + margin``.

    ``max(0, d - beta + margin)`` over positive pairs plus ``max(0, beta - d + margin)`` over the chosen
    negatives, d the distance of (normalised) embeddings.

    Args:
        margin: at least 0.
        beta: the boundary: a number, ``Learned(1.2)`` to train it, a scalar tensor or one value an anchor.
        negatives: ``"distance_weighted"`` (the paper), ``"all"``, or another selection; a ceiling is that of
            the anchor's highest-scoring positive.
        similarity: ``"euclidean"`` or ``"squared_euclidean"``; normalise the embeddings first.
        directions: with a reference, ``"queries"`` (embeddings are the anchors), ``"candidates"`` or
            ``"both"`` (added).
        reduction: as in ``PairwiseContrastiveLoss``.
        backend: ``"auto"``, ``"dense"``, ``"tiled"``, ``"triton"`` or an object such as ``Tiled()``.

    Source: Wu et al., "Sampling Matters in Deep Embedding Learning", ICCV 2017.

    Example:
        >>> loss = MarginLoss(margin=0.2, beta=Learned(1.2))
        >>> x = torch.nn.functional.normalize(torch.randn(32, 16))
        >>> value = loss(x, torch.arange(32) // 4)
    """

    beta: float | Tensor

    def __init__(
        self,
        margin: float = 0.2,
        beta: float | Tensor | Learned = 1.2,
        negatives: Negatives | NegativesName = "distance_weighted",
        similarity: Similarity | SimilarityName = "euclidean",
        *,
        directions: Directions = "queries",
        reduction: Reduction = "mean",
        backend: BackendName | Backend = "auto",
    ) -> None:
        super().__init__(negatives, similarity, directions, reduction, backend)
        if not isinstance(self.similarity, Euclidean | SquaredEuclidean):
            raise ValueError(
                f'MarginLoss with similarity {self.similarity!r}: it needs a distance; use "euclidean"'
            )
        self.margin = check_number("margin", margin, at_least=0)
        self.hold_choice("beta", beta)

    def whole(self, call: Call) -> EveryPairLoss:
        """The hinges of every pair."""
        return call.whole(
            EveryPairLoss,
            bias=self.beta,
            positive=self.margin,
            negative=-self.margin,
            penalty=Hinge(),
            apart=True,
        )

    def choices(self, call: Call) -> MinedByLoss:
        """See ``Loss``: negative pairs count whether there is a positive or not."""
        return MinedByLoss(*call.in_directions(partial(choices_of_queries, need_positive=False)))

    def terms(self, call: Call) -> Both:
        """Positive and negative pairs of every anchor."""
        beta = self.beta
        if isinstance(beta, Tensor) and beta.numel() > 1 and call.directions != "queries":
            raise ValueError(
                f'beta has one value an anchor but directions={call.directions!r}: use "queries"'
            )
        return call.in_directions(self.of_queries)

    def of_queries(self, call: Call) -> Terms:
        """The pairs of every query."""
        beta = as_vector("beta", self.beta, call)
        thresholds = PairThresholds(self.margin - beta, -(self.margin + beta), Hinge())
        return mean_of_kinds(call, thresholds)
