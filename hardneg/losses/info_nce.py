"""InfoNCE on pairs (CLIP), or with every candidate of an id as a positive."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import Tensor, nn

from hardneg.checks import check_number
from hardneg.losses.inputs import paired
from hardneg.losses.mining import check_strategy
from hardneg.losses.softmax import every_positive, one_to_one, scale_of
from hardneg.losses.temperature import Temperature
from hardneg.losses.terms import Direction, Output, check_reduction, finish, in_directions
from hardneg.negatives import (
    All,
    DistanceWeighted,
    Hardest,
    Negatives,
    RandomK,
    RankWindow,
    SemiHard,
    TopK,
    resolve_negatives,
)
from hardneg.ops.backends import carried_out, check_backend
from hardneg.ops.description import Comparison
from hardneg.ops.executor import Executor
from hardneg.positives import AllPositives, Paired, Positives, resolve_positives
from hardneg.similarities import Similarity, resolve_similarity

if TYPE_CHECKING:
    from jaxtyping import Bool, Float, Int

__all__ = ["InfoNCELoss", "info_nce_loss"]

ACCEPTED = (All, Hardest, SemiHard, TopK, RandomK, RankWindow, DistanceWeighted)


def info_nce_loss(
    queries: Float[Tensor, "n d"],
    candidates: Float[Tensor, "m d"],
    *,
    temperature: float | Float[Tensor, ""] = 0.07,
    margin: float = 0.0,
    positives: Positives | str = "paired",
    negatives: Negatives | str = "all",
    similarity: Similarity | str = "cosine",
    query_ids: Int[Tensor, "n"] | None = None,
    candidate_ids: Int[Tensor, "m"] | None = None,
    positive_mask: Bool[Tensor, "n m"] | None = None,
    ignore: Bool[Tensor, "n m"] | None = None,
    directions: str = "both",
    reduction: str = "mean",
    return_stats: bool = False,
    backend: str | Executor = "auto",
) -> Output:
    """Cross-entropy of picking each row's partner, averaged over both directions.

    The term of query i is ``log(1 + sum over negatives j of exp((s[i, j] - s[i, i] + margin) / T))``.
    Dense equivalent of the default (CLIP)::

        z = normalize(queries) @ normalize(candidates).T / temperature
        target = arange(n)
        loss = (cross_entropy(z, target) + cross_entropy(z.T[:n], target)) / 2

    Args:
        queries: n x d, row i belongs to candidate i.
        candidates: m x d, m >= n with ``positives="paired"``.
        temperature: above 0; a scalar tensor may require a gradient (and gives
            NaN where it is not above 0).
        margin: taken off the positive's score.
        positives: ``"paired"``: candidates of the same id are left out; ``"all"``: each is a positive
            of its own, against the negatives alone (several positives NT-Xent).
        negatives: by name or object; picked ones give InfoNCE on hard negatives.
        similarity: by name, object or callable.
        query_ids, candidate_ids: equal ids are never negatives of each other.
        positive_mask: mask of related pairs, instead of ids.
        ignore: mask of pairs left out.
        directions: ``"both"`` (averaged), ``"queries"`` or ``"candidates"``.
        reduction: ``"mean"``, ``"sum"``, ``"mean_active"`` (the mean: every term is active), ``"none"``.
        return_stats: also return ``MiningStatistics``.
        backend: ``"auto"``, ``"dense"``, ``"tiled"``, ``"triton"`` or an executor.

    Raises:
        ValueError, TypeError: naming the argument, what was expected, and what came.

    Source: van den Oord et al., 2018; Radford et al. (CLIP), ICML 2021.

    Example:
        >>> info_nce_loss(torch.randn(8, 4), torch.randn(8, 4), temperature=0.1).shape
        torch.Size([])
    """
    margin = check_number("margin", margin)
    check_reduction(reduction, directions)
    strategy = resolve_negatives(negatives, "info_nce_loss", ACCEPTED)
    which = resolve_positives(positives, "info_nce_loss", (Paired, AllPositives))
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
    check_strategy(strategy, comparison)
    scale = scale_of(temperature, queries)
    executor, comparison = carried_out(backend, comparison)
    if not one:
        return several_positives(
            executor, comparison, strategy, scale, margin, directions, reduction, return_stats
        )
    terms = one_to_one(
        executor,
        comparison,
        strategy,
        scale,
        margin,
        queries=directions != "candidates",
        candidates=directions != "queries",
        statistics=return_stats,
    )
    return finish(executor, comparison, terms, reduction, average=True, return_stats=return_stats)


def several_positives(
    executor: Executor,
    comparison: Comparison,
    strategy: Negatives,
    scale: Tensor,
    margin: float,
    directions: str,
    reduction: str,
    return_stats: bool,
) -> Output:
    """Every related candidate as a positive, in either direction."""

    def terms_of(compared: Comparison) -> Direction:
        return every_positive(executor, compared, strategy, scale, margin, reduction, return_stats)

    terms = in_directions(comparison, directions, terms_of)
    return finish(executor, comparison, terms, reduction, average=True, return_stats=return_stats)


class InfoNCELoss(nn.Module):
    """InfoNCE on pairs, as in CLIP; ``loss(queries, candidates)``.

    Choices are those of ``hardneg.functional.info_nce_loss``, and:

    Args:
        learnable_temperature: train it, as ``temperature.logit_scale`` = log(1 / temperature).
        max_scale: bound of 1 / temperature where it is trained.

    Example:
        >>> loss = InfoNCELoss(temperature=0.07, learnable_temperature=True)
        >>> value = loss(torch.randn(8, 4), torch.randn(8, 4))
    """

    def __init__(
        self,
        temperature: float = 0.07,
        negatives: Negatives | str = "all",
        similarity: Similarity | str = "cosine",
        *,
        positives: Positives | str = "paired",
        margin: float = 0.0,
        learnable_temperature: bool = False,
        max_scale: float = 100.0,
        directions: str = "both",
        reduction: str = "mean",
        backend: str | Executor = "auto",
    ) -> None:
        super().__init__()
        margin = check_number("margin", margin)
        check_reduction(reduction, directions)
        self.temperature = Temperature(temperature, learnable_temperature, max_scale)
        self.negatives = resolve_negatives(negatives, type(self).__name__, ACCEPTED)
        self.positives = resolve_positives(positives, type(self).__name__, (Paired, AllPositives))
        self.similarity = resolve_similarity(similarity)
        self.margin, self.directions, self.reduction = margin, directions, reduction
        self.backend = backend
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
        """See ``hardneg.functional.info_nce_loss``; ``positives`` is its ``positive_mask``."""
        return info_nce_loss(
            queries,
            candidates,
            temperature=self.temperature(),
            margin=self.margin,
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
            f"negatives={self.negatives}, positives={self.positives}, similarity={self.similarity}, "
            f"margin={self.margin}, directions={self.directions!r}, reduction={self.reduction!r}"
        )
