"""Metrics of the first k retrieved: mAP@k, precision@k, recall@k of lists."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from hardneg.checks import check_count
from hardneg.metrics.query_means import Relevance, Value, mean_of
from hardneg.metrics.relevance import relevant_to
from hardneg.metrics.standings import Standing
from hardneg.similarities import Similarity

if TYPE_CHECKING:
    from jaxtyping import Float, Int

__all__ = ["list_recall_at_k", "map_at_k", "precision_at_k"]


@torch.no_grad()
def map_at_k(
    queries: Float[Tensor, "n d"],
    candidates: Float[Tensor, "m d"],
    query_ids: Int[Tensor, "n"] | None = None,
    candidate_ids: Int[Tensor, "m"] | None = None,
    *,
    k: int,
    relevance: Relevance = None,
    similarity: Similarity | str = "cosine",
    same_set: bool = False,
    per_query: bool = False,
) -> Value:
    """Mean average precision of the first k candidates, in [0, 1].

    ``1/min(k, R) * sum over i <= k of precision(i) * [candidate i is relevant]``, R the number of relevant
    candidates, averaged over the queries with R > 0. Else as ``map_at_r``.

    Raises:
        ValueError: also if k < 1.

    Example:
        >>> x = torch.tensor([[1.0, 0], [1.0, 0.1], [0, 1.0], [0.1, 1.0]])
        >>> map_at_k(x, x, torch.tensor([0, 0, 1, 1]), k=2, same_set=True)
        1.0

    Source: Manning et al., Introduction to Information Retrieval, section 8.4.
    """
    k = check_count("k", k)

    def average_precision(block: Standing, counts: Tensor) -> Tensor:
        inside = block.valid & (block.positions < k)
        nth = torch.arange(1, inside.shape[1] + 1, device=counts.device)
        precisions = torch.where(inside, nth / (block.positions + 1).to(torch.float64), 0.0)
        return precisions.sum(1) / counts.clamp(max=k)

    relevant = relevant_to(queries, candidates, query_ids, candidate_ids, relevance, same_set)
    return mean_of(average_precision, queries, candidates, relevant, similarity, per_query)


@torch.no_grad()
def precision_at_k(
    queries: Float[Tensor, "n d"],
    candidates: Float[Tensor, "m d"],
    query_ids: Int[Tensor, "n"] | None = None,
    candidate_ids: Int[Tensor, "m"] | None = None,
    *,
    k: int,
    relevance: Relevance = None,
    similarity: Similarity | str = "cosine",
    same_set: bool = False,
    per_query: bool = False,
) -> Value:
    """The fraction, in [0, 1], of the first k candidates that are relevant.

    Averaged over the queries with a relevant candidate; fewer than k candidates count as k. Else as ``map_at_r``.

    Raises:
        ValueError: also if k < 1.

    Example:
        >>> x = torch.tensor([[1.0, 0], [1.0, 0.1], [0, 1.0], [0.1, 1.0]])
        >>> precision_at_k(x, x, torch.tensor([0, 0, 1, 1]), k=2, same_set=True)
        0.5

    Source: Manning et al., Introduction to Information Retrieval, section 8.4.
    """
    k = check_count("k", k)

    def precision(block: Standing, counts: Tensor) -> Tensor:
        return (block.valid & (block.positions < k)).sum(1).to(torch.float64) / k

    relevant = relevant_to(queries, candidates, query_ids, candidate_ids, relevance, same_set)
    return mean_of(precision, queries, candidates, relevant, similarity, per_query)


@torch.no_grad()
def list_recall_at_k(
    queries: Float[Tensor, "n d"],
    candidates: Float[Tensor, "m d"],
    query_ids: Int[Tensor, "n"] | None = None,
    candidate_ids: Int[Tensor, "m"] | None = None,
    *,
    k: int,
    relevance: Relevance = None,
    similarity: Similarity | str = "cosine",
    same_set: bool = False,
    per_query: bool = False,
) -> Value:
    """The fraction, in [0, 1], of a query's relevant candidates that are among the first k.

    Information retrieval's recall@k; what image-text retrieval calls so is ``recall_at_k`` (success@k). Averaged over
    the queries with a relevant candidate. Else as ``map_at_r``.

    Raises:
        ValueError: also if k < 1.

    Example:
        >>> x = torch.tensor([[1.0, 0], [1.0, 0.1], [0, 1.0], [0.1, 1.0]])
        >>> list_recall_at_k(x, x, torch.tensor([0, 0, 1, 1]), k=1, same_set=True)
        1.0

    Source: Manning et al., Introduction to Information Retrieval, section 8.3.
    """
    k = check_count("k", k)

    def recall(block: Standing, counts: Tensor) -> Tensor:
        return (block.valid & (block.positions < k)).sum(1).to(torch.float64) / counts

    relevant = relevant_to(queries, candidates, query_ids, candidate_ids, relevance, same_set)
    return mean_of(recall, queries, candidates, relevant, similarity, per_query)
