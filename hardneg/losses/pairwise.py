"""Hadsell's contrastive loss on labels."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import Tensor, nn

from hardneg.checks import check_number
from hardneg.losses.inputs import check_directions, labelled
from hardneg.losses.pair_terms import pair_loss
from hardneg.losses.terms import Output, check_reduction
from hardneg.negatives import (
    All,
    Hardest,
    Negatives,
    RandomK,
    TopK,
    resolve_negatives,
)
from hardneg.ops.backends import check_backend
from hardneg.ops.executor import Executor
from hardneg.penalties import Penalty, resolve_penalty
from hardneg.similarities import (
    Cosine,
    Dot,
    Similarity,
    resolve_similarity,
)

if TYPE_CHECKING:
    from jaxtyping import Bool, Float, Int

__all__ = ["PairwiseContrastiveLoss", "pairwise_contrastive_loss"]

ACCEPTED = (All, Hardest, TopK, RandomK)


def pairwise_contrastive_loss(
    embeddings: Float[Tensor, "n d"],
    labels: Int[Tensor, "n"] | None = None,
    reference: Float[Tensor, "m d"] | None = None,
    reference_labels: Int[Tensor, "m"] | None = None,
    *,
    positive_margin: float = 0.0,
    negative_margin: float = 1.0,
    negatives: Negatives | str = "all",
    similarity: Similarity | str = "euclidean",
    penalty: Penalty | str = "squared_hinge",
    positive_mask: Bool[Tensor, "n m"] | None = None,
    ignore: Bool[Tensor, "n m"] | None = None,
    same_set: bool = False,
    directions: str = "queries",
    reduction: str = "mean",
    return_stats: bool = False,
    backend: str | Executor = "auto",
) -> Output:
    """Hadsell's contrastive loss: pulls positive pairs together, pushes negative ones beyond a margin.

    With distances d: ``phi(d - positive_margin)`` over positive pairs plus ``phi(negative_margin - d)``
    over negative ones. With scores s (cosine, dot): ``phi(positive_margin - s)`` plus
    ``phi(s - negative_margin)``, so that ``positive_margin=1, negative_margin=0`` is the usual choice.
    Dense equivalent of the default::

        d = torch.cdist(embeddings, embeddings)
        same = labels[:, None] == labels[None]
        loss = d[same & ~eye(n)].square().mean() + (1 - d[~same]).clamp(min=0).square().mean()

    Args:
        embeddings, labels, reference, reference_labels, positive_mask, ignore, same_set, directions,
            return_stats, backend: as in ``triplet_loss``.
        positive_margin, negative_margin: in units of the distance, or of the score.
        negatives: ``"all"``, ``"hardest"``, ``TopK(k)`` or ``RandomK(k)`` an anchor.
        similarity: by name, object or callable (taken as a score).
        penalty: ``"squared_hinge"`` (Hadsell's, without his factor 1/2), ``"hinge"`` or ``"logistic"``.
        reduction: ``"mean"``: mean over positive pairs plus mean over negative pairs; ``"mean_active"``: the
            same over non-zero pairs; ``"sum"``; ``"none"``: sums by anchor.

    Raises:
        ValueError, TypeError: naming the argument, what was expected, and what came.

    Source: Hadsell, Chopra, LeCun, "Dimensionality Reduction by Learning an Invariant Mapping", CVPR 2006.

    Example:
        >>> x, labels = torch.randn(32, 16), torch.arange(32) // 4
        >>> pairwise_contrastive_loss(x, labels).shape
        torch.Size([])
    """
    positive_margin = check_number("positive_margin", positive_margin)
    negative_margin = check_number("negative_margin", negative_margin)
    check_reduction(reduction, directions)
    check_directions(directions, reference)
    strategy = resolve_negatives(negatives, "pairwise_contrastive_loss", ACCEPTED)
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
    sign = -1.0 if measures_distance(comparison.similarity) else 1.0
    return pair_loss(
        comparison,
        "margins",
        sign * positive_margin,
        sign * negative_margin,
        strategy,
        phi,
        directions,
        reduction,
        return_stats,
        backend,
    )


def measures_distance(similarity: Similarity) -> bool:
    """Whether its scores are negated distances."""
    return hasattr(similarity, "code") and not isinstance(similarity, Cosine | Dot)


class PairwiseContrastiveLoss(nn.Module):
    """Hadsell's contrastive loss on labels; the visual-semantic one is ``ContrastiveLoss``.

    Choices are those of ``hardneg.functional.pairwise_contrastive_loss``.

    Example:
        >>> loss = PairwiseContrastiveLoss(negative_margin=1.0)
        >>> value = loss(torch.randn(32, 16), torch.arange(32) // 4)
    """

    def __init__(
        self,
        positive_margin: float = 0.0,
        negative_margin: float = 1.0,
        negatives: Negatives | str = "all",
        similarity: Similarity | str = "euclidean",
        *,
        penalty: Penalty | str = "squared_hinge",
        directions: str = "queries",
        reduction: str = "mean",
        backend: str | Executor = "auto",
    ) -> None:
        super().__init__()
        positive_margin = check_number("positive_margin", positive_margin)
        negative_margin = check_number("negative_margin", negative_margin)
        check_reduction(reduction, directions)
        self.positive_margin, self.negative_margin = positive_margin, negative_margin
        self.negatives = resolve_negatives(negatives, type(self).__name__, ACCEPTED)
        self.similarity = resolve_similarity(similarity)
        self.penalty = resolve_penalty(penalty)
        self.directions, self.reduction, self.backend = directions, reduction, backend
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
        """See ``hardneg.functional.pairwise_contrastive_loss``; ``positives`` is its ``positive_mask``."""
        return pairwise_contrastive_loss(
            embeddings,
            labels,
            reference,
            reference_labels,
            positive_margin=self.positive_margin,
            negative_margin=self.negative_margin,
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
            f"positive_margin={self.positive_margin}, negative_margin={self.negative_margin}, "
            f"negatives={self.negatives}, similarity={self.similarity}, penalty={self.penalty}, "
            f"reduction={self.reduction!r}"
        )
