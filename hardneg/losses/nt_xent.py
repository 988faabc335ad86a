"""InfoNCE over labels, with several positives (NT-Xent)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import Tensor, nn

from hardneg.checks import check_number
from hardneg.losses.info_nce import ACCEPTED, several_positives
from hardneg.losses.inputs import check_directions, labelled
from hardneg.losses.mining import check_strategy
from hardneg.losses.softmax import scale_of
from hardneg.losses.temperature import Temperature
from hardneg.losses.terms import Output, check_reduction
from hardneg.negatives import (
    Negatives,
    resolve_negatives,
)
from hardneg.ops.backends import carried_out, check_backend
from hardneg.ops.executor import Executor
from hardneg.similarities import Similarity, resolve_similarity

if TYPE_CHECKING:
    from jaxtyping import Bool, Float, Int

__all__ = ["NTXentLoss", "nt_xent_loss"]


def nt_xent_loss(
    embeddings: Float[Tensor, "n d"],
    labels: Int[Tensor, "n"] | None = None,
    reference: Float[Tensor, "m d"] | None = None,
    reference_labels: Int[Tensor, "m"] | None = None,
    *,
    temperature: float | Float[Tensor, ""] = 0.07,
    margin: float = 0.0,
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
    """InfoNCE over labels: every pair of equal labels against the anchor's negatives.

    The term of (anchor i, positive p) is ``log(1 + sum over negatives j of exp((s[i, j] - s[i, p]) / T))``;
    with two views a sample this is SimCLR's loss (Chen et al., ICML 2020).

    Args:
        embeddings: n x d, the anchors.
        labels: n integers; equal labels are positives.
        reference, reference_labels: m x d candidates and their labels; None: the embeddings themselves.
        temperature, margin, negatives, similarity, reduction: as in ``info_nce_loss``.
        positive_mask, ignore, same_set, directions: as in ``triplet_loss``.
        return_stats: also return ``MiningStatistics``.
        backend: ``"auto"``, ``"dense"``, ``"tiled"``, ``"triton"`` or an executor.

    Raises:
        ValueError, TypeError: naming the argument, what was expected, and what came.

    Example:
        >>> x, labels = torch.randn(32, 16), torch.arange(32) // 4
        >>> nt_xent_loss(x, labels).shape
        torch.Size([])
    """
    margin = check_number("margin", margin)
    check_reduction(reduction, directions)
    check_directions(directions, reference)
    strategy = resolve_negatives(negatives, "nt_xent_loss", ACCEPTED)
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
    scale = scale_of(temperature, embeddings)
    executor, comparison = carried_out(backend, comparison)
    return several_positives(
        executor, comparison, strategy, scale, margin, directions, reduction, return_stats
    )


class NTXentLoss(nn.Module):
    """InfoNCE over labels (NT-Xent); ``loss(embeddings, labels)`` or with a reference.

    Choices are those of ``hardneg.functional.nt_xent_loss``; temperature as in ``InfoNCELoss``.

    Example:
        >>> loss = NTXentLoss(temperature=0.1)
        >>> value = loss(torch.randn(32, 16), torch.arange(32) // 4)
    """

    def __init__(
        self,
        temperature: float = 0.07,
        negatives: Negatives | str = "all",
        similarity: Similarity | str = "cosine",
        *,
        margin: float = 0.0,
        learnable_temperature: bool = False,
        max_scale: float = 100.0,
        directions: str = "queries",
        reduction: str = "mean",
        backend: str | Executor = "auto",
    ) -> None:
        super().__init__()
        margin = check_number("margin", margin)
        check_reduction(reduction, directions)
        self.temperature = Temperature(temperature, learnable_temperature, max_scale)
        self.negatives = resolve_negatives(negatives, type(self).__name__, ACCEPTED)
        self.similarity = resolve_similarity(similarity)
        self.margin, self.directions, self.reduction = margin, directions, reduction
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
        """See ``hardneg.functional.nt_xent_loss``; ``positives`` is its ``positive_mask``."""
        return nt_xent_loss(
            embeddings,
            labels,
            reference,
            reference_labels,
            temperature=self.temperature(),
            margin=self.margin,
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
            f"negatives={self.negatives}, similarity={self.similarity}, margin={self.margin}, "
            f"reduction={self.reduction!r}"
        )
