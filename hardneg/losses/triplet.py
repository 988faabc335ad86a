"""Triplet losses over labels: batch-all, batch-hard, semi-hard, soft margin."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import Tensor, nn

from hardneg.checks import check_number
from hardneg.losses.inputs import check_directions, labelled
from hardneg.losses.margin import all_positives, one_positive
from hardneg.losses.mining import check_strategy
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
from hardneg.ops.requests import Search
from hardneg.penalties import Penalty, resolve_penalty
from hardneg.positives import (
    AllPositives,
    EasiestPositive,
    HardestPositive,
    Positives,
    resolve_positives,
)
from hardneg.selection import Selection
from hardneg.similarities import Similarity, resolve_similarity

if TYPE_CHECKING:
    from jaxtyping import Bool, Float, Int

__all__ = ["TripletLoss", "triplet_loss"]

ACCEPTED = (All, Hardest, SemiHard, TopK, RandomK, RankWindow, DistanceWeighted)
POSITIVES = (AllPositives, HardestPositive, EasiestPositive)


def triplet_loss(
    embeddings: Float[Tensor, "n d"],
    labels: Int[Tensor, "n"] | None = None,
    reference: Float[Tensor, "m d"] | None = None,
    reference_labels: Int[Tensor, "m"] | None = None,
    *,
    margin: float = 0.2,
    positives: Positives | str = "all",
    negatives: Negatives | str = "semihard",
    similarity: Similarity | str = "cosine",
    penalty: Penalty | str = "hinge",
    positive_mask: Bool[Tensor, "n m"] | None = None,
    ignore: Bool[Tensor, "n m"] | None = None,
    same_set: bool = False,
    directions: str = "queries",
    reduction: str = "mean",
    return_stats: bool = False,
    backend: str | Executor = "auto",
) -> Output:
    """``phi(margin - s(anchor, positive) + s(anchor, negative))`` over the chosen triplets.

    With a distance as similarity (scores are negated distances) that is the familiar
    ``max(0, d(anchor, positive) - d(anchor, negative) + margin)``. ``positives="all"`` with
    ``negatives="all"`` is batch-all, ``"hardest"`` with ``"hardest"`` batch-hard, ``"all"`` with
    ``"semihard"`` FaceNet's. Dense equivalent of batch-all::

        s = similarity(embeddings, embeddings)
        x = (margin - s[:, :, None] + s[:, None, :]).clamp(min=0)   # anchor, positive, negative
        same = labels[:, None] == labels[None]
        pairs = same & ~eye(n)
        loss = x[pairs[:, :, None] & ~same[:, None, :]].sum() / pairs.sum()

    Args:
        embeddings: n x d, the anchors.
        labels: n integers; equal labels are positives.
        reference: m x d, the candidates; None: the embeddings themselves, a row never its own positive.
        reference_labels: m integers.
        margin: at least 0.
        positives: ``"all"``, ``"hardest"`` or ``"easiest"``.
        negatives: by name or object.
        similarity: by name, object or callable.
        penalty: ``"hinge"``, ``"squared_hinge"`` or ``"logistic"`` (soft margin; usually ``margin=0``).
        positive_mask: instead of labels, which pairs belong together.
        ignore: pairs left out.
        same_set: row i of the reference is the same sample as embedding i; it may have further rows.
        directions: with a reference, ``"queries"`` (embeddings are the anchors), ``"candidates"`` or
            ``"both"`` (added).
        reduction: ``"mean"`` over (anchor, positive) pairs with a negative, ``"sum"``, ``"mean_active"``
            over non-zero triplets, ``"none"``: (terms by anchor and positive, those of the other direction).
        return_stats: also return ``MiningStatistics``.
        backend: ``"auto"``, ``"dense"``, ``"tiled"``, ``"triton"`` or an executor.

    Raises:
        ValueError, TypeError: naming the argument, what was expected, and what came.

    Source: Schroff et al., "FaceNet", CVPR 2015; Hermans et al., "In Defense of the Triplet Loss",
    2017. Reads the number of positives from the device where ``positives="all"``.

    Example:
        >>> x, labels = torch.randn(32, 16), torch.arange(32) // 4
        >>> triplet_loss(x, labels, positives="hardest", negatives="hardest").shape
        torch.Size([])
    """
    margin = check_number("margin", margin, at_least=0)
    check_reduction(reduction, directions)
    check_directions(directions, reference)
    strategy = resolve_negatives(negatives, "triplet_loss", ACCEPTED)
    which = resolve_positives(positives, "triplet_loss", POSITIVES)
    phi = resolve_penalty(penalty)
    comparison = labelled(
        embeddings,
        labels,
        reference,
        reference_labels,
        similarity,
        positive_mask,
        ignore,
        same_set,
    )
    check_strategy(strategy, comparison)
    executor, comparison = carried_out(backend, comparison)

    def terms_of(compared: Comparison) -> Direction:
        return triplet_terms(
            executor, compared, which, strategy, margin, phi, reduction, return_stats
        )

    terms = in_directions(comparison, directions, terms_of)
    return finish(executor, comparison, terms, reduction, return_stats=return_stats)


def triplet_terms(
    executor: Executor,
    comparison: Comparison,
    positives: Positives,
    strategy: Negatives,
    margin: float,
    penalty: Penalty,
    reduction: str,
    statistics: bool,
) -> Direction:
    """The terms of every query as anchor."""
    if isinstance(positives, AllPositives):
        return all_positives(
            executor, comparison, strategy, margin, penalty, reduction, statistics=statistics
        )
    wanted = Selection("lowest" if isinstance(positives, HardestPositive) else "highest", 1)
    search = Search(wanted, "positives", columns=False)
    positive = executor.select(comparison, search).rows[:, 0]
    of_queries, _ = one_positive(
        executor, comparison, positive, strategy, margin, penalty, reduction, statistics=statistics
    )
    assert of_queries is not None
    return of_queries


class TripletLoss(nn.Module):
    """Triplet loss on one labelled set, or on a set against a reference.

    ``loss(embeddings, labels)`` or ``loss(embeddings, labels, reference, reference_labels)``. Choices
    are those of ``hardneg.functional.triplet_loss``.

    Example:
        >>> loss = TripletLoss(margin=0.2, positives="all", negatives="semihard")
        >>> value = loss(torch.randn(32, 16), torch.arange(32) // 4)
    """

    def __init__(
        self,
        margin: float = 0.2,
        positives: Positives | str = "all",
        negatives: Negatives | str = "semihard",
        similarity: Similarity | str = "cosine",
        *,
        penalty: Penalty | str = "hinge",
        directions: str = "queries",
        reduction: str = "mean",
        backend: str | Executor = "auto",
    ) -> None:
        super().__init__()
        margin = check_number("margin", margin, at_least=0)
        check_reduction(reduction, directions)
        self.margin, self.directions, self.reduction = margin, directions, reduction
        self.positives = resolve_positives(positives, type(self).__name__, POSITIVES)
        self.negatives = resolve_negatives(negatives, type(self).__name__, ACCEPTED)
        self.similarity = resolve_similarity(similarity)
        self.penalty = resolve_penalty(penalty)
        self.backend = backend
        check_backend(backend, self.similarity)

    def forward(
        self,
        embeddings: Float[Tensor, "n d"],
        labels: Int[Tensor, "n"] | None = None,
        reference: Float[Tensor, "m d"] | None = None,
        reference_labels: Int[Tensor, "m"] | None = None,
        *,
        positives: Bool[Tensor, "n m"] | None = None,
        ignore: Bool[Tensor, "n m"] | None = None,
        same_set: bool = False,
        negatives: Negatives | str | None = None,
        return_stats: bool = False,
    ) -> Output:
        """See ``hardneg.functional.triplet_loss``; ``positives`` is its ``positive_mask``."""
        return triplet_loss(
            embeddings,
            labels,
            reference,
            reference_labels,
            margin=self.margin,
            positives=self.positives,
            negatives=self.negatives if negatives is None else negatives,
            similarity=self.similarity,
            penalty=self.penalty,
            positive_mask=positives,
            ignore=ignore,
            same_set=same_set,
            directions=self.directions,
            reduction=self.reduction,
            return_stats=return_stats,
            backend=self.backend,
        )

    def extra_repr(self) -> str:
        """The choices."""
        return (
            f"margin={self.margin}, positives={self.positives}, negatives={self.negatives}, "
            f"similarity={self.similarity}, penalty={self.penalty}, reduction={self.reduction!r}"
        )
