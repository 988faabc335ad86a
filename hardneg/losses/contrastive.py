"""The visual-semantic contrastive loss: VSE0 (all negatives), VSE++ (the hardest), kNN-margin (the k hardest)."""

from __future__ import annotations

from typing import ClassVar

from hardneg.checks import check_number
from hardneg.losses.base import BackendName, Directions, HingeReduction, PairLoss
from hardneg.losses.call import Call
from hardneg.losses.terms.hinge import hinge_terms
from hardneg.losses.terms.reduction import Both
from hardneg.negatives import Negatives, NegativesName
from hardneg.ops.loss_requests import PairedLoss
from hardneg.ops.scores import Backend
from hardneg.penalties import Penalty, PenaltyName, resolve_penalty
from hardneg.similarities import Similarity, SimilarityName

__all__ = ["ContrastiveLoss"]


class ContrastiveLoss(PairLoss):
    """Hinge of every pair against its negatives, in both directions: the loss of VSE0 and VSE++.

    With scores ``s`` and ``p[i] = s[i, i]`` the term of query i is the sum over its chosen negatives j of
    ``max(0, margin - p[i] + s[i, j])``, that of candidate i the same over queries. All negatives give
    VSE0, the hardest VSE++, the k hardest the kNN margin loss. Hadsell's loss is
    ``PairwiseContrastiveLoss``. Dense equivalent of the default::

        s = normalize(queries) @ normalize(candidates).T
        x = (margin - s.diag()[:, None] + s).clamp(min=0).fill_diagonal_(0)
        y = (margin - s.diag()[None] + s).clamp(min=0).fill_diagonal_(0)
        loss = x.amax(1).mean() + y.amax(0).mean()

    Args:
        margin: at least 0, in units of the score.
        negatives: which negatives count, by name or object (``"hardest"``, ``TopK(8)`` ...).
        similarity: ``"cosine"``, ``"dot"``, ``"euclidean"``, ``"squared_euclidean"``, ``"order"``, an
            object, or a callable (n x d, m x d) -> n x m.
        penalty: ``"hinge"``, ``"squared_hinge"`` or ``"logistic"`` (soft margin), or an object.
        directions: ``"both"``, ``"queries"`` (candidates are the negatives) or ``"candidates"``.
        reduction: ``"mean"`` over the pairs that have a negative, ``"sum"`` (the paper),
            ``"mean_active"`` over the non-zero triplets (pair, negative), ``"mean_triplets"`` over all of them,
            ``"none"``: (query terms, candidate terms), in the order of the rows.
        backend: ``"auto"``, ``"dense"``, ``"tiled"``, ``"triton"`` or an object such as ``Tiled()``.

    Source: Faghri et al., "VSE++: Improving Visual-Semantic Embeddings with Hard Negatives", BMVC 2018,
    eq. 5 and 6 (sum and max of hinges).

    Example:
        >>> loss = ContrastiveLoss(margin=0.2, negatives="hardest")
        >>> value, stats = loss(torch.randn(8, 4), torch.randn(8, 4), return_stats=True)
    """

    takes_mean: ClassVar[bool] = True
    takes_triplets: ClassVar[bool] = True

    def __init__(
        self,
        margin: float = 0.2,
        negatives: Negatives | NegativesName = "hardest",
        similarity: Similarity | SimilarityName = "cosine",
        *,
        penalty: Penalty | PenaltyName = "hinge",
        directions: Directions = "both",
        reduction: HingeReduction = "mean",
        backend: BackendName | Backend = "auto",
    ) -> None:
        super().__init__(negatives, similarity, directions, reduction, backend)
        self.margin = check_number("margin", margin, at_least=0)
        self.penalty = resolve_penalty(penalty)

    def whole(self, call: Call) -> PairedLoss:
        """The hinges of every pair."""
        return call.whole(PairedLoss, margin=self.margin, penalty=self.penalty)

    def terms(self, call: Call) -> Both:
        """Every pair against its negatives."""
        return hinge_terms(call, call.own_positive(), self.margin, self.penalty)
