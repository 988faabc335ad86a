"""The margin loss: pairs on either side of a boundary that may be learned."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import Tensor

from hardneg.checks import check_number
from hardneg.losses.inputs import check_directions, labelled
from hardneg.losses.mining import check_strategy
from hardneg.losses.pair_terms import pair_loss
from hardneg.losses.scalars import WithScalars, shown
from hardneg.losses.terms import Output, check_reduction
from hardneg.negatives import All, DistanceWeighted, Negatives, RandomK, resolve_negatives
from hardneg.ops.backends import check_backend
from hardneg.ops.executor import Executor
from hardneg.penalties import Hinge
from hardneg.similarities import Euclidean, Similarity, SquaredEuclidean, resolve_similarity

if TYPE_CHECKING:
    from jaxtyping import Bool, Float, Int

__all__ = ["MarginLoss", "margin_loss"]

ACCEPTED = (All, DistanceWeighted, RandomK)


def margin_loss(
    embeddings: Float[Tensor, "n d"],
    labels: Int[Tensor, "n"] | None = None,
    reference: Float[Tensor, "m d"] | None = None,
    reference_labels: Int[Tensor, "m"] | None = None,
    *,
    margin: float = 0.2,
    beta: float | Float[Tensor, "..."] = 1.2,
    negatives: Negatives | str = "distance_weighted",
    similarity: Similarity | str = "euclidean",
    positive_mask: Bool[Tensor, "n m"] | None = None,
    ignore: Bool[Tensor, "n m"] | None = None,
    same_set: bool = False,
    directions: str = "queries",
    reduction: str = "mean",
    return_stats: bool = False,
    backend: str | Executor = "auto",
) -> Output:
    """Margin loss: positives nearer than ``beta - margin``, negatives farther than ``beta + margin``.

    ``max(0, d - beta + margin)`` over positive pairs plus ``max(0, beta - d + margin)`` over the chosen
    negatives, d the distance of (normalised) embeddings.

    Args:
        embeddings, labels, reference, reference_labels, positive_mask, ignore, same_set, directions,
            return_stats, backend: as in ``triplet_loss``.
        margin: at least 0.
        beta: the boundary, a number, a scalar tensor or one value an anchor; may require a gradient.
        negatives: ``"distance_weighted"`` (the paper), ``"all"`` or ``RandomK(k)``.
        similarity: ``"euclidean"`` or ``"squared_euclidean"``; normalise the embeddings first.
        reduction: as in ``pairwise_contrastive_loss``.

    Raises:
        ValueError, TypeError: naming the argument, what was expected, and what came.

    Source: Wu et al., "Sampling Matters in Deep Embedding Learning", ICCV 2017.

    Example:
        >>> x, labels = torch.randn(32, 16), torch.arange(32) // 4
        >>> margin_loss(torch.nn.functional.normalize(x), labels).shape
        torch.Size([])
    """
    margin = check_number("margin", margin, at_least=0)
    if not isinstance(beta, Tensor):
        beta = check_number("beta", beta)
    check_reduction(reduction, directions)
    check_directions(directions, reference)
    strategy = resolve_negatives(negatives, "margin_loss", ACCEPTED)
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
    check_distance(comparison.similarity)
    if isinstance(beta, Tensor) and beta.numel() > 1 and directions != "queries":
        raise ValueError(
            f'beta has one value an anchor but directions={directions!r}: use "queries"'
        )
    check_strategy(strategy, comparison)
    return pair_loss(
        comparison,
        "beta",
        margin - beta,
        -(margin + beta),
        strategy,
        Hinge(),
        directions,
        reduction,
        return_stats,
        backend,
    )


def check_distance(similarity: Similarity) -> None:
    """The boundary is a distance."""
    if not isinstance(similarity, Euclidean | SquaredEuclidean):
        raise ValueError(
            f'margin_loss with similarity {similarity!r}: it needs a distance; use "euclidean"'
        )


class MarginLoss(WithScalars):
    """Margin loss with a boundary that may be learned; ``loss(embeddings, labels)`` or with a reference.

    Choices are those of ``hardneg.functional.margin_loss``, and:

    Args:
        learnable_beta: train the boundary, one number.

    Example:
        >>> loss = MarginLoss(margin=0.2, beta=1.2, learnable_beta=True)
        >>> x = torch.nn.functional.normalize(torch.randn(32, 16))
        >>> value = loss(x, torch.arange(32) // 4)
    """

    beta: float | Tensor

    def __init__(
        self,
        margin: float = 0.2,
        beta: float = 1.2,
        negatives: Negatives | str = "distance_weighted",
        similarity: Similarity | str = "euclidean",
        *,
        learnable_beta: bool = False,
        directions: str = "queries",
        reduction: str = "mean",
        backend: str | Executor = "auto",
    ) -> None:
        super().__init__()
        margin = check_number("margin", margin, at_least=0)
        beta = check_number("beta", beta)
        check_reduction(reduction, directions)
        self.margin = margin
        self.hold("beta", beta, learnable_beta)
        self.negatives = resolve_negatives(negatives, type(self).__name__, ACCEPTED)
        self.similarity = resolve_similarity(similarity)
        check_distance(self.similarity)
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
        """See ``hardneg.functional.margin_loss``; ``positives`` is its ``positive_mask``."""
        return margin_loss(
            embeddings,
            labels,
            reference,
            reference_labels,
            margin=self.margin,
            beta=self.beta,
            negatives=self.negatives if negatives is None else negatives,
            similarity=self.similarity,
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
            f"margin={self.margin}, beta={shown(self.beta)}, negatives={self.negatives}, "
            f"similarity={self.similarity}, reduction={self.reduction!r}"
        )
