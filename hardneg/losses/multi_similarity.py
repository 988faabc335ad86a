"""The multi-similarity loss."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import Tensor, nn

from hardneg.checks import check_number
from hardneg.energies import Linear
from hardneg.losses.terms import Output, check_reduction
from hardneg.losses.two_sided import two_sided_loss
from hardneg.negatives import All, Negatives, TopK, resolve_negatives
from hardneg.ops.backends import check_backend
from hardneg.ops.executor import Executor
from hardneg.penalties import softplus
from hardneg.similarities import Similarity, resolve_similarity

if TYPE_CHECKING:
    from jaxtyping import Bool, Float, Int

__all__ = ["MultiSimilarityLoss", "multi_similarity_loss"]

ACCEPTED = (All, TopK)


def multi_similarity_loss(
    embeddings: Float[Tensor, "n d"],
    labels: Int[Tensor, "n"] | None = None,
    reference: Float[Tensor, "m d"] | None = None,
    reference_labels: Int[Tensor, "m"] | None = None,
    *,
    alpha: float = 2.0,
    beta: float = 50.0,
    base: float = 0.5,
    epsilon: float | None = None,
    negatives: Negatives | str = "all",
    similarity: Similarity | str = "cosine",
    positive_mask: Bool[Tensor, "n m"] | None = None,
    ignore: Bool[Tensor, "n m"] | None = None,
    same_set: bool = False,
    directions: str = "queries",
    reduction: str = "mean",
    return_stats: bool = False,
    backend: str | Executor = "auto",
) -> Output:
    """Softened sums over an anchor's positives and negatives.

    ``log(1 + sum_p exp(-alpha (s_p - base))) / alpha + log(1 + sum_n exp(beta (s_n - base))) / beta``. Dense
    equivalent::

        s = normalize(embeddings) @ normalize(embeddings).T
        same = labels[:, None] == labels[None]
        p = (-alpha * (s - base)).masked_fill(~same | eye(n), -inf).logsumexp(1)
        q = (beta * (s - base)).masked_fill(same, -inf).logsumexp(1)
        loss = (softplus(p) / alpha + softplus(q) / beta).mean()

    Args:
        embeddings, labels, reference, reference_labels, positive_mask, ignore, same_set, directions,
            return_stats, backend: as in ``triplet_loss``.
        alpha, beta: above 0, sharpness of positives and negatives.
        base: the score around which both are weighted (lambda in the paper).
        epsilon: mine as the paper does: keep positives below the hardest negative + epsilon and
            negatives above the hardest positive - epsilon (0.1 there); None: keep all.
        negatives: ``"all"`` or ``TopK(k)``.
        similarity: by name, object or callable.
        reduction: ``"mean"`` over anchors with a positive and a negative, ``"sum"``, ``"mean_active"`` (the
            mean), ``"none"``: terms by anchor.

    Raises:
        ValueError, TypeError: naming the argument, what was expected, and what came.

    Source: Wang et al., "Multi-Similarity Loss with General Pair Weighting", CVPR 2019.

    Example:
        >>> x, labels = torch.randn(32, 16), torch.arange(32) // 4
        >>> multi_similarity_loss(x, labels).shape
        torch.Size([])
    """
    alpha, beta, base, epsilon = check_options(alpha, beta, base, epsilon)
    strategy = resolve_negatives(negatives, "multi_similarity_loss", ACCEPTED)

    def combine(positive: Tensor, negative: Tensor) -> Tensor:
        return softplus(positive) / alpha + softplus(negative) / beta

    return two_sided_loss(
        embeddings,
        labels,
        reference,
        reference_labels,
        strategy,
        (Linear(-alpha, base), Linear(beta, base)),
        combine,
        epsilon,
        similarity,
        positive_mask,
        ignore,
        same_set,
        directions,
        reduction,
        return_stats,
        backend,
    )


def check_options(
    alpha: float, beta: float, base: float, epsilon: float | None
) -> tuple[float, float, float, float | None]:
    """The numbers of the loss."""
    return (
        check_number("alpha", alpha, above=0),
        check_number("beta", beta, above=0),
        check_number("base", base),
        None if epsilon is None else check_number("epsilon", epsilon),
    )


class MultiSimilarityLoss(nn.Module):
    """Multi-similarity loss; ``loss(embeddings, labels)`` or with a reference.

    Choices are those of ``hardneg.functional.multi_similarity_loss``.

    Example:
        >>> loss = MultiSimilarityLoss()
        >>> value = loss(torch.randn(32, 16), torch.arange(32) // 4)
    """

    def __init__(
        self,
        alpha: float = 2.0,
        beta: float = 50.0,
        base: float = 0.5,
        epsilon: float | None = None,
        negatives: Negatives | str = "all",
        similarity: Similarity | str = "cosine",
        *,
        directions: str = "queries",
        reduction: str = "mean",
        backend: str | Executor = "auto",
    ) -> None:
        super().__init__()
        check_reduction(reduction, directions)
        self.alpha, self.beta, self.base, self.epsilon = check_options(alpha, beta, base, epsilon)
        self.negatives = resolve_negatives(negatives, type(self).__name__, ACCEPTED)
        self.similarity = resolve_similarity(similarity)
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
        """See ``hardneg.functional.multi_similarity_loss``; ``positives`` is its ``positive_mask``."""
        return multi_similarity_loss(
            embeddings,
            labels,
            reference,
            reference_labels,
            alpha=self.alpha,
            beta=self.beta,
            base=self.base,
            epsilon=self.epsilon,
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
            f"alpha={self.alpha}, beta={self.beta}, base={self.base}, epsilon={self.epsilon}, "
            f"negatives={self.negatives}, similarity={self.similarity}, reduction={self.reduction!r}"
        )
