"""The sigmoid loss on pairs (SigLIP)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import Tensor

from hardneg.checks import check_number
from hardneg.losses.inputs import paired
from hardneg.losses.pair_terms import as_vector, negative_part, positive_part
from hardneg.losses.scalars import WithScalars, shown
from hardneg.losses.softmax import scale_of
from hardneg.losses.temperature import Temperature
from hardneg.losses.terms import Direction, Output, check_reduction, finish, in_directions
from hardneg.negatives import All, Hardest, Negatives, RandomK, TopK, resolve_negatives
from hardneg.ops.backends import carried_out, check_backend
from hardneg.ops.description import Comparison
from hardneg.ops.executor import Executor
from hardneg.penalties import Logistic
from hardneg.positives import AllPositives, Paired, Positives, resolve_positives
from hardneg.similarities import Similarity, resolve_similarity

if TYPE_CHECKING:
    from jaxtyping import Bool, Float, Int

__all__ = ["SigmoidLoss", "sigmoid_loss"]

ACCEPTED = (All, Hardest, TopK, RandomK)


def sigmoid_loss(
    queries: Float[Tensor, "n d"],
    candidates: Float[Tensor, "m d"],
    *,
    temperature: float | Float[Tensor, ""] = 0.1,
    bias: float | Float[Tensor, ""] = -10.0,
    positives: Positives | str = "paired",
    negatives: Negatives | str = "all",
    similarity: Similarity | str = "cosine",
    query_ids: Int[Tensor, "n"] | None = None,
    candidate_ids: Int[Tensor, "m"] | None = None,
    positive_mask: Bool[Tensor, "n m"] | None = None,
    ignore: Bool[Tensor, "n m"] | None = None,
    directions: str = "queries",
    reduction: str = "mean",
    return_stats: bool = False,
    backend: str | Executor = "auto",
) -> Output:
    """Binary cross-entropy of every pair: does this candidate belong to this query?

    With ``z = s / T + bias``: ``softplus(-z)`` of positive pairs plus ``softplus(z)`` of negative ones.
    Dense equivalent of the default (SigLIP)::

        z = normalize(queries) @ normalize(candidates).T / temperature + bias
        sign = 2 * eye(n) - 1
        loss = -logsigmoid(sign * z).sum() / n

    Args:
        queries, candidates, query_ids, candidate_ids, positive_mask, ignore, return_stats, backend:
            as in ``info_nce_loss``.
        temperature: above 0; temperature and bias may be scalar tensors that require a gradient.
        bias: added to the scaled score.
        positives: ``"paired"``, or ``"all"``: every candidate of the query's id.
        negatives: ``"all"``, ``"hardest"``, ``TopK(k)`` or ``RandomK(k)`` a query.
        similarity: by name, object or callable.
        directions: every pair is counted once from the queries; ``"candidates"`` mines and counts from
            the candidates, ``"both"`` averages.
        reduction: ``"mean"``: the sum over pairs divided by the number of queries that have one;
            ``"mean_active"``: by the number of non-zero terms; ``"sum"``; ``"none"``: sums by query.

    Raises:
        ValueError, TypeError: naming the argument, what was expected, and what came.

    Source: Zhai et al., "Sigmoid Loss for Language Image Pre-Training", ICCV 2023.

    Example:
        >>> sigmoid_loss(torch.randn(8, 4), torch.randn(8, 4)).shape
        torch.Size([])
    """
    check_reduction(reduction, directions)
    strategy = resolve_negatives(negatives, "sigmoid_loss", ACCEPTED)
    which = resolve_positives(positives, "sigmoid_loss", (Paired, AllPositives))
    one = isinstance(which, Paired)
    comparison = paired(
        queries,
        candidates,
        similarity,
        query_ids,
        candidate_ids,
        positive_mask,
        ignore,
        one_to_one=one,
    )
    executor, comparison = carried_out(backend, comparison)
    scale = scale_of(temperature, queries)
    if not isinstance(bias, Tensor):
        bias = check_number("bias", bias)

    def terms_of(compared: Comparison) -> Direction:
        return sigmoid_terms(
            executor, compared, strategy, scale, bias, reduction, one, return_stats
        )

    terms = in_directions(comparison, directions, terms_of)
    return finish(executor, comparison, terms, reduction, average=True, return_stats=return_stats)


def sigmoid_terms(
    executor: Executor,
    comparison: Comparison,
    strategy: Negatives,
    scale: Float[Tensor, ""],
    bias: float | Tensor,
    reduction: str,
    one: bool,
    statistics: bool,
) -> Direction:
    """Positive and negative terms of every query under one reduction."""
    n, m = comparison.queries.shape[0], comparison.candidates.shape[0]
    if one and n > m:
        raise ValueError(
            f'directions="candidates" or "both" with {m} queries and {n} candidates: only equal numbers pair '
            "every candidate"
        )
    total = reduction != "none"
    threshold = as_vector("bias", -bias, comparison)
    positive = positive_part(executor, comparison, Logistic(), threshold, total, statistics, scale)
    negative = negative_part(executor, comparison, strategy, Logistic(), threshold, total, scale)
    valid = (positive.pairs > 0) | (negative.pairs > 0)
    both = (positive.pairs > 0) & (negative.pairs > 0)
    active = positive.active + negative.active
    divisors = {"mean": valid.sum(), "mean_active": active.sum()}
    value = positive.sums + negative.sums
    if reduction in divisors:
        value = value / divisors[reduction].clamp(min=1)
    considered = positive.pairs + negative.pairs
    return Direction(value, both, active, considered, positive.scores, negative.scores, summed=True)


class SigmoidLoss(WithScalars):
    """SigLIP's loss on pairs; ``loss(queries, candidates)``.

    Choices are those of ``hardneg.functional.sigmoid_loss``, and:

    Args:
        learnable: train temperature and bias (``temperature.logit_scale`` and ``bias``).
        max_scale: bound of 1 / temperature where it is trained.

    Example:
        >>> loss = SigmoidLoss(learnable=True)
        >>> value = loss(torch.randn(8, 4), torch.randn(8, 4))
    """

    bias: float | Tensor

    def __init__(
        self,
        temperature: float = 0.1,
        bias: float = -10.0,
        negatives: Negatives | str = "all",
        similarity: Similarity | str = "cosine",
        *,
        positives: Positives | str = "paired",
        learnable: bool = False,
        max_scale: float = 1000.0,
        directions: str = "queries",
        reduction: str = "mean",
        backend: str | Executor = "auto",
    ) -> None:
        super().__init__()
        bias = check_number("bias", bias)
        check_reduction(reduction, directions)

        self.temperature = Temperature(temperature, learnable, max_scale)
        self.hold("bias", bias, learnable)
        self.negatives = resolve_negatives(negatives, type(self).__name__, ACCEPTED)
        self.positives = resolve_positives(positives, type(self).__name__, (Paired, AllPositives))
        self.similarity = resolve_similarity(similarity)
        self.directions, self.reduction, self.backend = directions, reduction, backend
        check_backend(backend, self.similarity)

    def forward(
        self,
        queries: Float[Tensor, "n d"],
        candidates: Float[Tensor, "m d"],
        *,
        query_ids: Int[Tensor, "n"] | None = None,
        candidate_ids: Int[Tensor, "m"] | None = None,
        positives: Bool[Tensor, "n m"] | None = None,
        ignore: Bool[Tensor, "n m"] | None = None,
        negatives: Negatives | str | None = None,
        return_stats: bool = False,
    ) -> Output:
        """See ``hardneg.functional.sigmoid_loss``; ``positives`` is its ``positive_mask``."""
        return sigmoid_loss(
            queries,
            candidates,
            temperature=self.temperature(),
            bias=self.bias,
            positives=self.positives,
            negatives=self.negatives if negatives is None else negatives,
            similarity=self.similarity,
            query_ids=query_ids,
            candidate_ids=candidate_ids,
            positive_mask=positives,
            ignore=ignore,
            directions=self.directions,
            reduction=self.reduction,
            return_stats=return_stats,
            backend=self.backend,
        )

    def extra_repr(self) -> str:
        """The choices."""
        return (
            f"bias={shown(self.bias)}, negatives={self.negatives}, positives={self.positives}, "
            f"similarity={self.similarity}, directions={self.directions!r}, "
            f"reduction={self.reduction!r}"
        )
