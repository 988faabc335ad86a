"""Multi-similarity loss."""

from __future__ import annotations

from torch import Tensor

from hardneg.checks import check_number
from hardneg.losses.base import BackendName, Directions, LabelLoss, Reduction
from hardneg.losses.call import Call
from hardneg.losses.mined import MinedByLoss
from hardneg.losses.terms.reduction import Both
from hardneg.losses.terms.two_sided import TwoSided, two_sided_choices, two_sided_terms
from hardneg.negatives import Negatives, NegativesName
from hardneg.ops.energies import Linear
from hardneg.ops.loss_requests import TwoSidedLoss
from hardneg.ops.scores import Backend
from hardneg.penalties import softplus
from hardneg.similarities import Similarity, SimilarityName

__all__ = ["MultiSimilarityLoss"]


class MultiSimilarityLoss(LabelLoss):
    """Softened sums over an anchor's positives and negatives.

    ``log(1 + sum_p exp(-alpha (s_p - base))) / alpha + log(1 + sum_n exp(beta (s_n - base))) / beta``. Dense
    equivalent::

        s = normalize(embeddings) @ normalize(embeddings).T
        same = labels[:, None] == labels[None]
        p = (-alpha * (s - base)).masked_fill(~same | eye(n), -inf).logsumexp(1)
        q = (beta * (s - base)).masked_fill(same, -inf).logsumexp(1)
        loss = (softplus(p) / alpha + softplus(q) / beta).mean()

    Args:
        alpha, beta: above 0, sharpness of positives and negatives.
        base: the score around which both are weighted (lambda in the paper).
        epsilon: mine as the paper does: keep positives below the hardest negative + epsilon and
            negatives above the hardest positive - epsilon (0.1 there); None: keep all.
        negatives: ``"all"``, ``TopK(k)`` or another selection; a ceiling is that of the
            anchor's highest-scoring positive.
        similarity: by name, object or callable.
        directions: with a reference, ``"queries"`` (embeddings are the anchors), ``"candidates"`` or
            ``"both"`` (added).
        reduction: ``"mean"`` over anchors with a positive and a negative, ``"sum"``, ``"mean_active"`` (the
            mean), ``"none"``: terms by anchor.
        backend: ``"auto"``, ``"dense"``, ``"tiled"``, ``"triton"`` or an object such as ``Tiled()``.

    Source: Wang et al., "Multi-Similarity Loss with General Pair Weighting", CVPR 2019.

    Example:
        >>> loss = MultiSimilarityLoss()
        >>> value = loss(torch.randn(32, 16), torch.arange(32) // 4)
    """

    def __init__(
        self,
        alpha: float = 2.0,
        beta: float = 50.0,
        base: float = 0.5,
        epsilon: float | None = None,
        negatives: Negatives | NegativesName = "all",
        similarity: Similarity | SimilarityName = "cosine",
        *,
        directions: Directions = "queries",
        reduction: Reduction = "mean",
        backend: BackendName | Backend = "auto",
    ) -> None:
        super().__init__(negatives, similarity, directions, reduction, backend)
        self.alpha = check_number("alpha", alpha, above=0)
        self.beta = check_number("beta", beta, above=0)
        self.base = check_number("base", base)
        self.epsilon = None if epsilon is None else check_number("epsilon", epsilon)

    def energies(self) -> tuple[Linear, Linear]:
        """The exponents of positives and negatives."""
        return Linear(-self.alpha, self.base), Linear(self.beta, self.base)

    def whole(self, call: Call) -> TwoSidedLoss | None:
        """Both softened sums of every anchor, where none is left out."""
        if self.epsilon is not None:
            return None
        positive, negative = self.energies()
        weights = 1 / self.alpha, 1 / self.beta
        return call.whole(TwoSidedLoss, positive=positive, negative=negative, weights=weights)

    def choices(self, call: Call) -> MinedByLoss:
        """See ``Loss``: of what epsilon leaves."""
        return MinedByLoss(*call.in_directions(lambda side: two_sided_choices(side, self.epsilon)))

    def terms(self, call: Call) -> Both:
        """Both softened sums of every anchor."""
        equation = TwoSided(*self.energies(), self.combine, self.epsilon)
        return call.in_directions(lambda side: two_sided_terms(side, equation))

    def combine(self, positive: Tensor, negative: Tensor) -> Tensor:
        """The softened sums, from both log-sum-exps."""
        return softplus(positive) / self.alpha + softplus(negative) / self.beta
