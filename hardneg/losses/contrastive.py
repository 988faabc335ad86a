"""The visual-semantic contrastive loss: VSE0 (all negatives), VSE++ (the hardest), kNN-margin (the k hardest)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import Tensor, nn

from hardneg.checks import check_number
from hardneg.losses.inputs import paired
from hardneg.losses.margin import one_positive
from hardneg.losses.mining import check_strategy, own_positive
from hardneg.losses.terms import Output, check_reduction, finish
from hardneg.negatives import (
    All,
    DistanceWeighted,
    Hardest,
    Negatives,
    RandomK,
    RankWindow,
    SelectiveHardest,
    SemiHard,
    TopK,
    resolve_negatives,
)
from hardneg.ops.backends import carried_out, check_backend
from hardneg.ops.executor import Executor
from hardneg.penalties import Penalty, resolve_penalty
from hardneg.similarities import Similarity, resolve_similarity

if TYPE_CHECKING:
    from jaxtyping import Bool, Float, Int

__all__ = ["ContrastiveLoss", "contrastive_loss"]

ACCEPTED = (
    All,
    Hardest,
    SemiHard,
    TopK,
    RandomK,
    RankWindow,
    DistanceWeighted,
    SelectiveHardest,
)


def contrastive_loss(
    queries: Float[Tensor, "n d"],
    candidates: Float[Tensor, "m d"],
    *,
    margin: float = 0.2,
    negatives: Negatives | str = "hardest",
    similarity: Similarity | str = "cosine",
    penalty: Penalty | str = "hinge",
    query_ids: Int[Tensor, "n"] | None = None,
    candidate_ids: Int[Tensor, "m"] | None = None,
    positives: Bool[Tensor, "n m"] | None = None,
    ignore: Bool[Tensor, "n m"] | None = None,
    directions: str = "both",
    reduction: str = "mean",
    return_stats: bool = False,
    backend: str | Executor = "auto",
) -> Output:
    """Hinge of every pair against its negatives, in both directions.

    With scores ``s`` and ``p[i] = s[i, i]`` the term of query i is the sum over its chosen negatives j of
    ``max(0, margin - p[i] + s[i, j])``, that of candidate i the same over queries. All negatives give
    VSE0, the hardest VSE++, the k hardest the kNN margin loss. Dense equivalent of the default::

        s = normalize(queries) @ normalize(candidates).T
        x = (margin - s.diag()[:, None] + s).clamp(min=0).fill_diagonal_(0)
        y = (margin - s.diag()[None] + s).clamp(min=0).fill_diagonal_(0)
        loss = x.amax(1).mean() + y.amax(0).mean()

    Args:
        queries: n x d, row i belongs to candidate i.
        candidates: m x d, m >= n; those from n on are extra negatives of the queries.
        margin: at least 0, in units of the score.
        negatives: which negatives count, by name or object (``"hardest"``, ``TopK(8)`` ...).
        similarity: ``"cosine"``, ``"dot"``, ``"euclidean"``, ``"squared_euclidean"``, ``"order"``, an
            object, or a callable (n x d, m x d) -> n x m.
        penalty: ``"hinge"``, ``"squared_hinge"`` or ``"logistic"`` (soft margin).
        query_ids, candidate_ids: equal ids are never negatives of each other.
        positives: mask of related pairs, instead of ids: never negatives.
        ignore: mask of pairs left out.
        directions: ``"both"``, ``"queries"`` (candidates are the negatives) or ``"candidates"``.
        reduction: ``"mean"`` over the pairs that have a negative, ``"sum"`` (the paper),
            ``"mean_active"`` over the non-zero terms, ``"none"``: (query terms, candidate terms).
        return_stats: also return ``MiningStatistics``.
        backend: ``"auto"``, ``"dense"``, ``"tiled"``, ``"triton"`` or an executor.

    Returns:
        A float32 (float64 for float64 inputs) scalar, or two vectors of n terms for ``"none"``.

    Raises:
        ValueError, TypeError: naming the argument, what was expected, and what came.

    Source: Faghri et al., "VSE++: Improving Visual-Semantic Embeddings with Hard Negatives", BMVC 2018,
    eq. 5 and 6 (sum and max of hinges).

    Example:
        >>> images, captions = torch.randn(128, 256), torch.randn(128, 256)
        >>> contrastive_loss(images, captions, margin=0.2, negatives="hardest").shape
        torch.Size([])
    """
    margin = check_number("margin", margin, at_least=0)
    check_reduction(reduction, directions)
    strategy = resolve_negatives(negatives, "contrastive_loss", ACCEPTED)
    phi = resolve_penalty(penalty)
    comparison = paired(
        queries, candidates, similarity, query_ids, candidate_ids, positives, ignore
    )
    check_strategy(strategy, comparison)
    executor, comparison = carried_out(backend, comparison)
    terms = one_positive(
        executor,
        comparison,
        own_positive(comparison),
        strategy,
        margin,
        phi,
        reduction,
        queries=directions != "candidates",
        candidates=directions != "queries",
        statistics=return_stats,
    )
    return finish(executor, comparison, terms, reduction, return_stats=return_stats)


class ContrastiveLoss(nn.Module):
    """The visual-semantic loss of VSE0 and VSE++ on pairs; Hadsell's is ``PairwiseContrastiveLoss``.

    ``loss(images, captions)``: row i of each belong together. Choices are those of
    ``hardneg.functional.contrastive_loss``; ``negatives`` may be given anew with every call, for
    schedules.

    Example:
        >>> loss = ContrastiveLoss(margin=0.2, negatives="hardest")
        >>> value, stats = loss(torch.randn(8, 4), torch.randn(8, 4), return_stats=True)
    """

    def __init__(
        self,
        margin: float = 0.2,
        negatives: Negatives | str = "hardest",
        similarity: Similarity | str = "cosine",
        *,
        penalty: Penalty | str = "hinge",
        directions: str = "both",
        reduction: str = "mean",
        backend: str | Executor = "auto",
    ) -> None:
        super().__init__()
        margin = check_number("margin", margin, at_least=0)
        check_reduction(reduction, directions)
        self.margin, self.directions, self.reduction = margin, directions, reduction
        self.negatives = resolve_negatives(negatives, type(self).__name__, ACCEPTED)
        self.similarity = resolve_similarity(similarity)
        self.penalty = resolve_penalty(penalty)
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
        """See ``hardneg.functional.contrastive_loss``."""
        return contrastive_loss(
            queries,
            candidates,
            margin=self.margin,
            negatives=self.negatives if negatives is None else negatives,
            similarity=self.similarity,
            penalty=self.penalty,
            query_ids=query_ids,
            candidate_ids=candidate_ids,
            positives=positives,
            ignore=ignore,
            directions=self.directions,
            reduction=self.reduction,
            return_stats=return_stats,
            backend=self.backend,
        )

    def extra_repr(self) -> str:
        """The choices."""
        return (
            f"margin={self.margin}, negatives={self.negatives}, similarity={self.similarity}, "
            f"penalty={self.penalty}, directions={self.directions!r}, reduction={self.reduction!r}"
        )
