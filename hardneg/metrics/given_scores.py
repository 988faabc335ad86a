"""Metrics of scores that are given: of a cross-encoder, a cross-attention model, a fused ranking."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from torch import Tensor

from hardneg.checks import FLOATING, check_layout
from hardneg.similarities import Given

if TYPE_CHECKING:
    from jaxtyping import Float

__all__ = ["from_scores"]


def from_scores(
    metric: Callable[..., Any], scores: Float[Tensor, "n m"], *arguments: Any, **options: Any
) -> Any:
    """A metric of given scores in place of embeddings.

    Args:
        metric: of this package, with queries and candidates as its first arguments, such as ``ranks`` or ``ndcg``.
        scores: n x m, rising with closeness. Two count as tied where they are equal.
        arguments, options: what the metric takes behind the candidates; it has no ``similarity``.

    Returns:
        What the metric returns.

    Raises:
        ValueError, TypeError: as the metric.

    Example:
        >>> from hardneg.metrics import ranks, recall_at_k
        >>> scores = torch.tensor([[0.9, 0.1], [0.7, 0.2]])
        >>> recall_at_k(from_scores(ranks, scores), 1)
        0.5
    """
    if not isinstance(scores, Tensor):
        raise TypeError(
            f"scores is a {type(scores).__name__}: expected a tensor of shape (queries, candidates)"
        )
    check_layout("scores", scores)
    if scores.dim() != 2 or scores.dtype not in FLOATING:
        raise ValueError(
            f"scores has shape {tuple(scores.shape)} and type {scores.dtype}: expected an n x m matrix of floats"
        )
    matrix = scores.detach()
    return metric(matrix, matrix.T, *arguments, similarity=Given(), **options)
