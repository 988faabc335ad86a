"""SigLIP's sigmoid loss on pairs."""

from __future__ import annotations

from functools import partial

from torch import Tensor

from hardneg.losses.base import BackendName, Directions, PairLoss, Reduction
from hardneg.losses.call import Call
from hardneg.losses.mined import MinedByLoss
from hardneg.losses.scalars import Learned
from hardneg.losses.temperature import Temperature
from hardneg.losses.terms.choices import choices_of_queries
from hardneg.losses.terms.pairs import PairThresholds, as_vector, pair_terms
from hardneg.losses.terms.reduction import Both, Terms
from hardneg.negatives import Negatives, NegativesName
from hardneg.ops.loss_requests import EveryPairLoss
from hardneg.ops.scores import Backend
from hardneg.penalties import Logistic
from hardneg.positives import AllPositives, Paired, Positives, PositivesName, resolve_positives
from hardneg.similarities import Similarity, SimilarityName

__all__ = ["SigmoidLoss"]


class SigmoidLoss(PairLoss):
    """Binary cross-entropy of every pair: does this candidate belong to this query?

    With ``z = s / T + bias``: ``softplus(-z)`` of positive pairs plus ``softplus(z)`` of negative ones.
    Dense equivalent of the default (SigLIP)::

        z = normalize(queries) @ normalize(candidates).T / temperature + bias
        sign = 2 * eye(n) - 1
        loss = -logsigmoid(sign * z).sum() / n

    Args:
        temperature: above 0; a number, ``Learned(0.1, max_scale=1000)`` to train it, or a scalar tensor.
        bias: added to the scaled score; a number, ``Learned(-10.0)``, or a scalar tensor.
        negatives: ``"all"``, or a selection of each query's; a ceiling is that of its highest-scoring positive.
        similarity: by name, object or callable.
        positives: ``"paired"``, or ``"all"``: every candidate of the query's id.
        directions: every pair is counted once from the queries; ``"candidates"`` mines and counts from
            the candidates, ``"both"`` averages.
        reduction: ``"mean"``: the sum over pairs divided by the number of queries that have one;
            ``"mean_active"``: by the number of non-zero terms; ``"sum"``; ``"none"``: sums by query.
        backend: ``"auto"``, ``"dense"``, ``"tiled"``, ``"triton"`` or an object such as ``Tiled()``.

    Source: Zhai et al., "Sigmoid Loss for Language Image Pre-Training", ICCV 2023.

    Example:
        >>> loss = SigmoidLoss(Learned(0.1, max_scale=1000), Learned(-10.0))
        >>> value = loss(torch.randn(8, 4), torch.randn(8, 4))
    """

    bias: float | Tensor
    average = True

    def __init__(
        self,
        temperature: float | Tensor | Learned = 0.1,
        bias: float | Tensor | Learned = -10.0,
        negatives: Negatives | NegativesName = "all",
        similarity: Similarity | SimilarityName = "cosine",
        *,
        positives: Positives | PositivesName = "paired",
        directions: Directions = "queries",
        reduction: Reduction = "mean",
        backend: BackendName | Backend = "auto",
    ) -> None:
        super().__init__(negatives, similarity, directions, reduction, backend)
        self.temperature = Temperature(temperature)
        self.hold_choice("bias", bias)
        self.positives = resolve_positives(positives, type(self).__name__, (Paired, AllPositives))

    def whole(self, call: Call) -> EveryPairLoss:
        """The two cross-entropies of every pair."""
        return call.whole(
            EveryPairLoss,
            average=self.average,
            scale=self.temperature.factor(call.scores),
            bias=self.bias,
            positive=0.0,
            negative=0.0,
            penalty=Logistic(),
            apart=False,
        )

    def choices(self, call: Call) -> MinedByLoss:
        """See ``Loss``: negative pairs count whether there is a positive or not."""
        self.check_directions(call)
        return MinedByLoss(*call.in_directions(partial(choices_of_queries, need_positive=False)))

    def terms(self, call: Call) -> Both:
        """Positive and negative pairs of every query, and from the candidates by exchanged sides."""
        self.check_directions(call)
        return call.in_directions(self.of_queries)

    def check_directions(self, call: Call) -> None:
        """Every candidate that is an anchor has a partner."""
        n, m = call.scores.shape
        if isinstance(self.positives, Paired) and call.candidates and m > n:
            raise ValueError(
                f"directions={call.directions!r} with {n} queries and {m} candidates: only equal numbers pair "
                "every candidate"
            )

    def of_queries(self, call: Call) -> Terms:
        """The pairs of every query under one reduction."""
        threshold = -as_vector("bias", self.bias, call)
        scale = self.temperature.scale(call.scores)
        positive, negative = pair_terms(
            call, PairThresholds(threshold, threshold, Logistic(), scale)
        )
        some = (positive.pairs > 0) | (negative.pairs > 0)
        active = positive.active + negative.active
        value = positive.sums + negative.sums
        if call.reduction in ("mean", "mean_active"):
            count = some.sum() if call.reduction == "mean" else active.sum()
            value = value / count.clamp(min=1)
        both = (positive.pairs > 0) & (negative.pairs > 0)
        considered = positive.pairs + negative.pairs
        scores = positive.scores, negative.scores
        return Terms(value, both, active, considered, *scores, summed=True, counted=some)
