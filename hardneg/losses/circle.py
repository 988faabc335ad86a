"""Circle loss."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import Tensor, nn

from hardneg.checks import check_number
from hardneg.energies import CircleNegative, CirclePositive
from hardneg.losses.terms import Output, check_reduction
from hardneg.losses.two_sided import two_sided_loss
from hardneg.negatives import All, Negatives, TopK, resolve_negatives
from hardneg.ops.backends import check_backend
from hardneg.ops.executor import Executor
from hardneg.penalties import softplus
from hardneg.similarities import Similarity, resolve_similarity

if TYPE_CHECKING:
    from jaxtyping import Bool, Float, Int

__all__ = ["CircleLoss", "circle_loss"]

ACCEPTED = (All, TopK)


def circle_loss(
    embeddings: Float[Tensor, "n d"],
    labels: Int[Tensor, "n"] | None = None,
    reference: Float[Tensor, "m d"] | None = None,
    reference_labels: Int[Tensor, "m"] | None = None,
    *,
    margin: float = 0.25,
    gamma: float = 256.0,
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
    """Every score is weighted by its distance from its optimum.

    ``log(1 + sum_n exp(gamma a_n (s_n - margin)) * sum_p exp(-gamma a_p (s_p - 1 + margin)))`` with the weights
    ``a_n = max(0, s_n + margin)`` and ``a_p = max(0, 1 + margin - s_p)`` held constant. Dense equivalent::

        s = normalize(embeddings) @ normalize(embeddings).T
        same = labels[:, None] == labels[None]
        a, b = (s.detach() + margin).relu(), (1 + margin - s.detach()).relu()
        q = (gamma * a * (s - margin)).masked_fill(same, -inf).logsumexp(1)
        p = (-gamma * b * (s - 1 + margin)).masked_fill(~same | eye(n), -inf).logsumexp(1)
        loss = softplus(p + q).mean()

    Args:
        embeddings, labels, reference, reference_labels, positive_mask, ignore, same_set, directions,
            return_stats, backend: as in ``triplet_loss``.
        margin: the relaxation m, at least 0.
        gamma: the scale, above 0.
        negatives: ``"all"`` or ``TopK(k)``.
        similarity: by name, object or callable.
        reduction: ``"mean"`` over anchors with a positive and a negative, ``"sum"``, ``"mean_active"`` (the
            mean), ``"none"``: terms by anchor.

    Raises:
        ValueError, TypeError: naming the argument, what was expected, and what came.

    Source: Sun et al., "Circle Loss: A Unified Perspective of Pair Similarity Optimization", CVPR 2020.

    Example:
        >>> x, labels = torch.randn(32, 16), torch.arange(32) // 4
        >>> circle_loss(x, labels).shape
        torch.Size([])
    """
    margin = check_number("margin", margin, at_least=0)
    gamma = check_number("gamma", gamma, above=0)
    strategy = resolve_negatives(negatives, "circle_loss", ACCEPTED)
    return two_sided_loss(
        embeddings,
        labels,
        reference,
        reference_labels,
        strategy,
        (CirclePositive(margin, gamma), CircleNegative(margin, gamma)),
        lambda positive, negative: softplus(positive + negative),
        None,
        similarity,
        positive_mask,
        ignore,
        same_set,
        directions,
        reduction,
        return_stats,
        backend,
    )


class CircleLoss(nn.Module):
    """Circle loss; ``loss(embeddings, labels)`` or with a reference.

    Choices are those of ``hardneg.functional.circle_loss``.

    Example:
        >>> loss = CircleLoss()
        >>> value = loss(torch.randn(32, 16), torch.arange(32) // 4)
    """

    def __init__(
        self,
        margin: float = 0.25,
        gamma: float = 256.0,
        negatives: Negatives | str = "all",
        similarity: Similarity | str = "cosine",
        *,
        directions: str = "queries",
        reduction: str = "mean",
        backend: str | Executor = "auto",
    ) -> None:
        super().__init__()
        margin = check_number("margin", margin, at_least=0)
        gamma = check_number("gamma", gamma, above=0)
        check_reduction(reduction, directions)
        self.margin = margin
        self.gamma = gamma
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
        """See ``hardneg.functional.circle_loss``; ``positives`` is its ``positive_mask``."""
        return circle_loss(
            embeddings,
            labels,
            reference,
            reference_labels,
            margin=self.margin,
            gamma=self.gamma,
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
            f"margin={self.margin}, gamma={self.gamma}, "
            f"negatives={self.negatives}, similarity={self.similarity}, reduction={self.reduction!r}"
        )
