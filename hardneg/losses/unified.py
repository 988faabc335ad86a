"""The unified pair loss, between max of hinges and InfoNCE."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import Tensor, nn

from hardneg.checks import check_number
from hardneg.losses.info_nce import ACCEPTED, info_nce_loss
from hardneg.losses.terms import Output, Result, check_reduction, parted
from hardneg.negatives import Negatives, resolve_negatives
from hardneg.ops.backends import check_backend
from hardneg.ops.executor import Executor
from hardneg.similarities import Similarity, resolve_similarity

if TYPE_CHECKING:
    from jaxtyping import Bool, Float, Int

__all__ = ["UnifiedPairLoss", "unified_pair_loss"]


def unified_pair_loss(
    queries: Float[Tensor, "n d"],
    candidates: Float[Tensor, "m d"],
    *,
    margin: float = 0.2,
    gamma: float = 50.0,
    negatives: Negatives | str = "all",
    similarity: Similarity | str = "cosine",
    query_ids: Int[Tensor, "n"] | None = None,
    candidate_ids: Int[Tensor, "m"] | None = None,
    positives: Bool[Tensor, "n m"] | None = None,
    ignore: Bool[Tensor, "n m"] | None = None,
    directions: str = "both",
    reduction: str = "mean",
    return_stats: bool = False,
    backend: str | Executor = "auto",
) -> Output:
    """``log(1 + sum over negatives of exp(gamma * (s_n - s_p + margin))) / gamma``, in both directions, added.

    As gamma grows this becomes the max of hinges (VSE++); with ``margin=0`` it is InfoNCE at temperature
    1 / gamma, times 1 / gamma.

    Args:
        queries, candidates, similarity, query_ids, candidate_ids, positives, ignore, directions,
            return_stats, backend: as in ``contrastive_loss``.
        margin: at least 0.
        gamma: sharpness, above 0.
        negatives: by name or object.
        reduction: ``"mean"``, ``"sum"``, ``"mean_active"`` (the mean) or ``"none"``.

    Raises:
        ValueError, TypeError: naming the argument, what was expected, and what came.

    Example:
        >>> unified_pair_loss(torch.randn(8, 4), torch.randn(8, 4)).shape
        torch.Size([])
    """
    margin = check_number("margin", margin, at_least=0)
    gamma = check_number("gamma", gamma, above=0)
    found = info_nce_loss(
        queries,
        candidates,
        temperature=1 / gamma,
        margin=margin,
        negatives=resolve_negatives(negatives, "unified_pair_loss", ACCEPTED),
        similarity=similarity,
        query_ids=query_ids,
        candidate_ids=candidate_ids,
        positive_mask=positives,
        ignore=ignore,
        directions=directions,
        reduction=reduction,
        return_stats=return_stats,
        backend=backend,
    )
    directions_added = 2 if directions == "both" else 1
    value, stats = parted(found)
    scaled: Result
    if isinstance(value, tuple):
        scaled = value[0] / gamma, value[1] / gamma
    else:
        scaled = value / gamma * directions_added
    return scaled if stats is None else (scaled, stats)


class UnifiedPairLoss(nn.Module):
    """Unified pair loss; ``loss(images, captions)``.

    Choices are those of ``hardneg.functional.unified_pair_loss``.

    Example:
        >>> loss = UnifiedPairLoss()
        >>> value = loss(torch.randn(8, 4), torch.randn(8, 4))
    """

    def __init__(
        self,
        margin: float = 0.2,
        gamma: float = 50.0,
        negatives: Negatives | str = "all",
        similarity: Similarity | str = "cosine",
        *,
        directions: str = "both",
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
        """See ``hardneg.functional.unified_pair_loss``."""
        return unified_pair_loss(
            queries,
            candidates,
            margin=self.margin,
            gamma=self.gamma,
            negatives=self.negatives if negatives is None else negatives,
            similarity=self.similarity,
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
            f"margin={self.margin}, gamma={self.gamma}, "
            f"negatives={self.negatives}, similarity={self.similarity}, reduction={self.reduction!r}"
        )
