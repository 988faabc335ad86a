"""InfoNCE over labels (SimCLR, several positives)."""

from __future__ import annotations

from torch import Tensor

from hardneg.checks import check_number
from hardneg.losses.base import BackendName, Directions, LabelLoss, Reduction
from hardneg.losses.call import Call
from hardneg.losses.mined import MinedByLoss
from hardneg.losses.scalars import Learned
from hardneg.losses.temperature import Temperature
from hardneg.losses.terms.choices import choices_of_pairs
from hardneg.losses.terms.reduction import Both
from hardneg.losses.terms.softmax import every_positive
from hardneg.negatives import Negatives, NegativesName
from hardneg.ops.loss_requests import LabelledLoss
from hardneg.ops.scores import Backend
from hardneg.similarities import Similarity, SimilarityName

__all__ = ["NTXentLoss"]


class NTXentLoss(LabelLoss):
    """InfoNCE over labels: every pair of equal labels against the anchor's negatives.

    The term of (anchor i, positive p) is ``log(1 + sum over negatives j of exp((s[i, j] - s[i, p]) / T))``;
    with two views a sample this is SimCLR's loss.

    Args:
        temperature, negatives, similarity, reduction, backend: as in ``InfoNCELoss``.
            With ``reduction="none"`` ``term_pairs`` says which pair each term is.
        margin: taken off the positive's score.
        directions: with a reference, ``"queries"`` (embeddings are the anchors), ``"candidates"`` or
            ``"both"`` (averaged).

    Source: Chen et al., "A Simple Framework for Contrastive Learning of Visual Representations", ICML 2020.

    Example:
        >>> loss = NTXentLoss(temperature=0.1)
        >>> value = loss(torch.randn(32, 16), torch.arange(32) // 4)
    """

    average = True

    def __init__(
        self,
        temperature: float | Tensor | Learned = 0.07,
        negatives: Negatives | NegativesName = "all",
        similarity: Similarity | SimilarityName = "cosine",
        *,
        margin: float = 0.0,
        directions: Directions = "queries",
        reduction: Reduction = "mean",
        backend: BackendName | Backend = "auto",
    ) -> None:
        super().__init__(negatives, similarity, directions, reduction, backend)
        self.temperature = Temperature(temperature)
        self.margin = check_number("margin", margin)

    @property
    def lists_positives(self) -> bool:
        """Always."""
        return True

    def whole(self, call: Call) -> LabelledLoss:
        """The cross-entropy of every positive."""
        scale = self.temperature.factor(call.scores)
        return call.whole(LabelledLoss, average=self.average, margin=self.margin, scale=scale)

    def choices(self, call: Call) -> MinedByLoss:
        """See ``Loss``: of every positive."""
        return MinedByLoss(*call.in_directions(choices_of_pairs))

    def terms(self, call: Call) -> Both:
        """Every positive against the negatives."""
        scale = self.temperature.scale(call.scores)
        return call.in_directions(lambda side: every_positive(side, scale, self.margin))
