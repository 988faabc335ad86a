"""Circle loss."""

from __future__ import annotations

from torch import Tensor

from hardneg.checks import check_number
from hardneg.losses.base import BackendName, Directions, LabelLoss, Reduction
from hardneg.losses.call import Call
from hardneg.losses.terms.reduction import Both
from hardneg.losses.terms.two_sided import TwoSided, two_sided_terms
from hardneg.negatives import Negatives, NegativesName
from hardneg.ops.energies import CircleNegative, CirclePositive
from hardneg.ops.loss_requests import TwoSidedLoss
from hardneg.ops.scores import Backend
from hardneg.penalties import softplus
from hardneg.similarities import Similarity, SimilarityName

__all__ = ["CircleLoss"]


class CircleLoss(LabelLoss):
    """Log-sum-exps in which every score is weighted by its distance from its optimum.

    ``log(1 + sum_n exp(gamma a_n (s_n - margin)) * sum_p exp(-gamma a_p (s_p - 1 + margin)))`` with the weights
    ``a_n = max(0, s_n + margin)`` and ``a_p = max(0, 1 + margin - s_p)`` held constant. Dense equivalent::

        s = normalize(embeddings) @ normalize(embeddings).T
        same = labels[:, None] == labels[None]
        a, b = (s.detach() + margin).relu(), (1 + margin - s.detach()).relu()
        q = (gamma * a * (s - margin)).masked_fill(same, -inf).logsumexp(1)
        p = (-gamma * b * (s - 1 + margin)).masked_fill(~same | eye(n), -inf).logsumexp(1)
        loss = softplus(p + q).mean()

    Args:
        margin: the relaxation m, at least 0.
        gamma: the scale, above 0.
        negatives: ``"all"``, ``TopK(k)`` or another selection; a ceiling is that of the
            anchor's highest-scoring positive.
        similarity: by name, object or callable.
        directions: with a reference, ``"queries"`` (embeddings are the anchors), ``"candidates"`` or
            ``"both"`` (added).
        reduction: ``"mean"`` over anchors with a positive and a negative, ``"sum"``, ``"mean_active"`` (the
            mean), ``"none"``: terms by anchor.
        backend: ``"auto"``, ``"dense"``, ``"tiled"``, ``"triton"`` or an object such as ``Tiled()``.

    Source: Sun et al., "Circle Loss: A Unified Perspective of Pair Similarity Optimization", CVPR 2020.

    Example:
        >>> loss = CircleLoss()
        >>> value = loss(torch.randn(32, 16), torch.arange(32) // 4)
    """

    def __init__(
        self,
        margin: float = 0.25,
        gamma: float = 256.0,
        negatives: Negatives | NegativesName = "all",
        similarity: Similarity | SimilarityName = "cosine",
        *,
        directions: Directions = "queries",
        reduction: Reduction = "mean",
        backend: BackendName | Backend = "auto",
    ) -> None:
        super().__init__(negatives, similarity, directions, reduction, backend)
        self.margin = check_number("margin", margin, at_least=0)
        self.gamma = check_number("gamma", gamma, above=0)

    def energies(self) -> tuple[CirclePositive, CircleNegative]:
        """The exponents of positives and negatives."""
        return CirclePositive(self.margin, self.gamma), CircleNegative(self.margin, self.gamma)

    def whole(self, call: Call) -> TwoSidedLoss:
        """Both log-sum-exps of every anchor, in one softplus."""
        positive, negative = self.energies()
        return call.whole(TwoSidedLoss, positive=positive, negative=negative)

    def terms(self, call: Call) -> Both:
        """Both log-sum-exps of every anchor, in one softplus."""
        equation = TwoSided(*self.energies(), combine)
        return call.in_directions(lambda side: two_sided_terms(side, equation))


def combine(positive: Tensor, negative: Tensor) -> Tensor:
    """``log(1 + exp(positive) * exp(negative))``."""
    return softplus(positive + negative)
