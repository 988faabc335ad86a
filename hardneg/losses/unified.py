"""The unified loss on pairs, between InfoNCE and the max of hinges."""

from __future__ import annotations

from dataclasses import replace

from hardneg.checks import check_number
from hardneg.losses.base import BackendName, Directions, PairLoss, Reduction
from hardneg.losses.call import Call
from hardneg.losses.scalars import fill
from hardneg.losses.terms.reduction import Both, Terms
from hardneg.losses.terms.softmax import one_positive
from hardneg.negatives import Negatives, NegativesName
from hardneg.ops.loss_requests import PairedLoss
from hardneg.ops.scores import Backend
from hardneg.similarities import Similarity, SimilarityName

__all__ = ["UnifiedPairLoss"]


class UnifiedPairLoss(PairLoss):
    """``log(1 + sum over negatives of exp(gamma * (s_n - s_p + margin))) / gamma``, in both directions, added.

    As gamma grows this becomes the max of hinges (VSE++); with ``margin=0`` it is InfoNCE at temperature
    1 / gamma, times 1 / gamma.

    Args:
        margin: at least 0.
        gamma: sharpness, above 0.
        negatives: by name or object.
        similarity, directions, backend: as in ``ContrastiveLoss``.
        reduction: ``"mean"``, ``"sum"``, ``"mean_active"`` (the mean) or ``"none"``.

    Example:
        >>> loss = UnifiedPairLoss(margin=0.2, gamma=50.0)
        >>> value = loss(torch.randn(8, 4), torch.randn(8, 4))
    """

    def __init__(
        self,
        margin: float = 0.2,
        gamma: float = 50.0,
        negatives: Negatives | NegativesName = "all",
        similarity: Similarity | SimilarityName = "cosine",
        *,
        directions: Directions = "both",
        reduction: Reduction = "mean",
        backend: BackendName | Backend = "auto",
    ) -> None:
        super().__init__(negatives, similarity, directions, reduction, backend)
        self.margin = check_number("margin", margin, at_least=0)
        self.gamma = check_number("gamma", gamma, above=0)

    def whole(self, call: Call) -> PairedLoss:
        """InfoNCE of every pair over gamma."""
        request = call.whole(PairedLoss, margin=self.margin, scale=self.gamma)
        return replace(request, share=request.share / self.gamma)

    def terms(self, call: Call) -> Both:
        """InfoNCE's terms over gamma."""
        scale = fill((), self.gamma, call.scores)
        queries, candidates = one_positive(call, scale, self.margin)
        return self.over_gamma(queries), self.over_gamma(candidates)

    def over_gamma(self, terms: Terms | None) -> Terms | None:
        """The terms divided by gamma."""
        return None if terms is None else replace(terms, values=terms.values / self.gamma)
