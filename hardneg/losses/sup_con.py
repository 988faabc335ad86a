"""Supervised contrastive loss."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from hardneg.losses.base import BackendName, Directions, LabelLoss, Reduction
from hardneg.losses.call import Call
from hardneg.losses.scalars import Learned
from hardneg.losses.temperature import Temperature
from hardneg.losses.terms.mining import mined_queries
from hardneg.losses.terms.reduction import Both, Terms
from hardneg.losses.terms.softmax import EMPTY, mean_positive
from hardneg.losses.terms.windows import count_negatives, window_of_negatives
from hardneg.negatives import Negatives, NegativesName
from hardneg.ops.energies import Linear
from hardneg.ops.loss_requests import SupervisedLoss
from hardneg.ops.requests import ExponentialTerms, PenaltyTerms
from hardneg.ops.scores import Backend
from hardneg.penalties import Identity
from hardneg.similarities import Similarity, SimilarityName

if TYPE_CHECKING:
    from jaxtyping import Float

__all__ = ["SupConLoss"]


class SupConLoss(LabelLoss):
    """Mean over an anchor's positives of the cross-entropy against all others, positives included.

    The term of anchor i with positives P and chosen negatives N is
    ``log(sum over a in P + N of exp(s[i, a] / T)) - mean over p in P of s[i, p] / T``. Dense
    equivalent of the default::

        z = (normalize(embeddings) @ normalize(embeddings).T / temperature).fill_diagonal_(-inf)
        positive = (labels[:, None] == labels[None]).fill_diagonal_(False)
        mean = torch.where(positive, z, 0).sum(1) / positive.sum(1)
        loss = (z.logsumexp(1) - mean).mean()

    Anchors without a positive are left out. One without a negative has its positives alone in the sum, as in the paper.

    Args:
        temperature: as in ``InfoNCELoss``.
        negatives: ``"all"``, ``TopK(k)`` or another selection; a ceiling is that of the
            anchor's highest-scoring positive.
        similarity: by name, object or callable.
        directions: with a reference, ``"queries"`` (embeddings are the anchors), ``"candidates"`` or
            ``"both"`` (averaged).
        reduction: ``"mean"`` over anchors, ``"sum"``, ``"mean_active"`` (the mean), ``"none"``: terms by anchor.
        backend: ``"auto"``, ``"dense"``, ``"tiled"``, ``"triton"`` or an object such as ``Tiled()``.

    Source: Khosla et al., "Supervised Contrastive Learning", NeurIPS 2020 (L_out).

    Example:
        >>> loss = SupConLoss(temperature=0.1)
        >>> value = loss(torch.randn(32, 16), torch.arange(32) // 4)
    """

    average = True

    def __init__(
        self,
        temperature: float | Tensor | Learned = 0.1,
        negatives: Negatives | NegativesName = "all",
        similarity: Similarity | SimilarityName = "cosine",
        *,
        directions: Directions = "queries",
        reduction: Reduction = "mean",
        backend: BackendName | Backend = "auto",
    ) -> None:
        super().__init__(negatives, similarity, directions, reduction, backend)
        self.temperature = Temperature(temperature)

    def whole(self, call: Call) -> SupervisedLoss:
        """The loss of every anchor."""
        scale = self.temperature.factor(call.scores)
        return call.whole(SupervisedLoss, average=self.average, scale=scale)

    def terms(self, call: Call) -> Both:
        """The terms of every anchor."""
        scale = self.temperature.scale(call.scores)
        return call.in_directions(lambda side: sup_con_terms(side, scale))


def sup_con_terms(call: Call, scale: Float[Tensor, ""]) -> Terms:
    """The terms of every query that has a positive, reduced; statistics are over those that have both kinds."""
    scores = call.scores
    positives, _ = scores.counts("positives")
    denominator, hardest, some = log_denominator(call, scale)
    valid = positives > 0
    zeros = scores.zeros()
    terms = PenaltyTerms(Identity(), zeros, among="positives", scale=scale, maxima=False)
    sums = scores.penalty_sum(terms)
    values = torch.where(valid, denominator, 0.0) - sums.rows / positives.clamp(min=1)
    mean = mean_positive(call, positives) if call.statistics else hardest
    of_anchors = Terms(values, valid, valid.long(), valid.long(), mean, hardest)
    both, active = valid & some, valid.long()
    reduced = of_anchors.reduce(call.reduction)
    return Terms(reduced, both, active, active, mean, hardest, summed=True, counted=valid)


def log_denominator(
    call: Call, scale: Float[Tensor, ""]
) -> tuple[Float[Tensor, "n"], Float[Tensor, "n"], Tensor | bool]:
    """Log-sum-exp over positives and chosen negatives, each query's hardest negative, and whether it has any.

    The last is told where statistics are wanted.
    """
    scores, selection = call.scores, call.selection
    window = window_of_negatives(call)
    some: Tensor | bool = True
    if selection is None:
        terms = ExponentialTerms(Linear(), scale=scale, window=window, columns=False)
        found = scores.logsumexp(terms)
        if call.statistics:
            some = count_negatives(scores, window) > 0
        largest = torch.where(found.row_maxima > -torch.inf, found.row_maxima, 0.0)
        of_negatives, hardest = found.rows, largest / scale.detach()
    else:
        mined = mined_queries(call, selection, window)
        some = mined.there[:, 0]
        of_negatives = torch.where(mined.there, mined.scores * scale, EMPTY).logsumexp(1)
        hardest = mined.hardest
    of_positives = scores.logsumexp(ExponentialTerms(Linear(), "positives", scale, columns=False))
    sides = torch.stack([of_positives.rows, of_negatives])
    return torch.where(sides > EMPTY, sides, EMPTY).logsumexp(0), hardest, some
