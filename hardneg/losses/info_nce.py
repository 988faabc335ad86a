"""InfoNCE on pairs (CLIP), or with every candidate of an id as a positive."""

from __future__ import annotations

from typing import Literal

from torch import Tensor

from hardneg.checks import check_number
from hardneg.losses.base import BackendName, Directions, PairLoss, Reduction
from hardneg.losses.call import Call
from hardneg.losses.scalars import Learned
from hardneg.losses.temperature import Temperature
from hardneg.losses.terms.joint import joint_terms
from hardneg.losses.terms.reduction import Both
from hardneg.losses.terms.softmax import every_positive, one_positive
from hardneg.losses.terms.softmax_forms import softmax_terms
from hardneg.negatives import Negatives, NegativesName
from hardneg.ops.loss_requests import LabelledLoss, LossAgainstNegatives, PairedLoss
from hardneg.ops.scores import Backend
from hardneg.positives import AllPositives, Paired, Positives, PositivesName, resolve_positives
from hardneg.similarities import Cosine, Similarity, SimilarityName
from hardneg.softmaxes import Softmax, SoftmaxName, resolve_softmax

__all__ = ["InfoNCELoss"]


class InfoNCELoss(PairLoss):
    """Cross-entropy of picking each row's partner, averaged over both directions, as in CLIP.

    The term of query i is ``log(1 + sum over negatives j of exp((s[i, j] - s[i, i] + margin) / T))``.
    Dense equivalent of the default::

        z = normalize(queries) @ normalize(candidates).T / temperature
        target = arange(n)
        loss = (cross_entropy(z, target) + cross_entropy(z.T[:n], target)) / 2

    Args:
        temperature: above 0: a number, ``Learned(0.07)`` to train it, or a scalar tensor, which may require a
            gradient (and gives NaN where it is not above 0).
        negatives: by name or object; a selection gives InfoNCE on hard negatives.
        similarity: by name, object or callable.
        positives: ``"paired"``: candidates of the same id are left out; ``"all"``: each is a positive
            of its own, against the negatives alone (several positives NT-Xent).
        margin: taken off the positive's score.
        softmax: what is made of the positive and the sum of its negatives: ``"plain"``, ``"decoupled"``, or an object:
            ``HardnessWeighted(5.0)``, ``LabelSmoothing(0.1)``, ``Debiased(0.1)``. With ``positives="paired"``.
        directions: ``"both"`` (averaged), ``"queries"`` or ``"candidates"``; ``"joint"``: of the queries, with
            other queries as further negatives of the query, and other candidates as those of its candidate, in one
            softmax (Qwen3-Embedding); paired rows and all negatives only.
        reduction: ``"mean"``, ``"sum"``, ``"mean_active"`` (the mean: every term is active), ``"none"``: (query terms,
            candidate terms); with ``positives="all"`` ``term_pairs`` says which pair each of them is.
        backend: ``"auto"``, ``"dense"``, ``"tiled"``, ``"triton"`` or an object such as ``Tiled()``.

    Source: van den Oord et al., 2018; Radford et al. (CLIP), ICML 2021.

    Example:
        >>> loss = InfoNCELoss(temperature=Learned(0.07, max_scale=100))
        >>> value = loss(torch.randn(8, 4), torch.randn(8, 4))
    """

    average = True
    takes_joint = True

    def __init__(
        self,
        temperature: float | Tensor | Learned = 0.07,
        negatives: Negatives | NegativesName = "all",
        similarity: Similarity | SimilarityName = "cosine",
        *,
        positives: Positives | PositivesName = "paired",
        margin: float = 0.0,
        softmax: Softmax | SoftmaxName = "plain",
        directions: Directions | Literal["joint"] = "both",
        reduction: Reduction = "mean",
        backend: BackendName | Backend = "auto",
    ) -> None:
        super().__init__(negatives, similarity, directions, reduction, backend)
        self.temperature = Temperature(temperature)
        self.positives = resolve_positives(positives, type(self).__name__, (Paired, AllPositives))
        self.margin = check_number("margin", margin)
        self.softmax = resolve_softmax(softmax)
        if directions == "joint" and not isinstance(self.positives, Paired):
            raise ValueError('directions="joint" with positives="all": it takes paired rows only')
        self.check_softmax()

    def check_negatives(self, negatives: Negatives | str) -> Negatives:
        """See ``Loss``; in one softmax over three kinds of negatives none are selected."""
        strategy = super().check_negatives(negatives)
        if self.directions == "joint" and not strategy.complete:
            raise ValueError(
                f'directions="joint" does not take negatives {strategy!r}: it takes all of them, below a ceiling or '
                "not, such as All(Qwen3Mask(0.1))"
            )
        return strategy

    def check_softmax(self) -> None:
        """A form of the softmax that goes with the other choices.

        Raises:
            ValueError: naming what it needs.
        """
        softmax, needs = self.softmax, ""
        if type(softmax) is not Softmax and not isinstance(self.positives, Paired):
            needs = f'positives="paired", not {self.positives!r}'
        elif softmax.needs_cosine and not isinstance(self.similarity, Cosine):
            needs = f'similarity="cosine", not {self.similarity!r}'
        elif type(softmax) is not Softmax and self.directions == "joint":
            needs = 'directions "queries", "candidates" or "both"'
        if needs:
            raise ValueError(f"InfoNCELoss with softmax={softmax!r} takes {needs}")

    @property
    def lists_positives(self) -> bool:
        """With ``positives="all"``."""
        return isinstance(self.positives, AllPositives)

    def whole(self, call: Call) -> LossAgainstNegatives | None:
        """The cross-entropy of every pair, or of every positive; None for other forms."""
        if call.directions == "joint" or type(self.softmax) is not Softmax:
            return None
        kind = PairedLoss if isinstance(self.positives, Paired) else LabelledLoss
        scale = self.temperature.factor(call.scores)
        return call.whole(kind, average=self.average, margin=self.margin, scale=scale)

    def terms(self, call: Call) -> Both:
        """Each query's partner, or every positive, against the negatives."""
        scale = self.temperature.scale(call.scores)
        if call.directions == "joint":
            return joint_terms(call, self.backend, scale, self.margin), None
        if type(self.softmax) is not Softmax:
            return softmax_terms(call, scale, self.margin, self.softmax)
        if isinstance(self.positives, Paired):
            return one_positive(call, scale, self.margin)
        return call.in_directions(lambda side: every_positive(side, scale, self.margin))
