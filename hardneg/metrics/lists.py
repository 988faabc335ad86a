"""Metrics of the whole retrieved list: mAP@R, R-precision, NDCG."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from hardneg.checks import check_count
from hardneg.metrics.query_means import Relevance, Value, mean_of
from hardneg.metrics.relevance import by_gains, by_ids, relevant_to
from hardneg.metrics.standings import Standing
from hardneg.similarities import Similarity

if TYPE_CHECKING:
    from jaxtyping import Float, Int

__all__ = ["map_at_r", "ndcg", "r_precision"]


@torch.no_grad()
def map_at_r(
    queries: Float[Tensor, "n d"],
    candidates: Float[Tensor, "m d"],
    query_ids: Int[Tensor, "n"] | None = None,
    candidate_ids: Int[Tensor, "m"] | None = None,
    *,
    relevance: Relevance = None,
    similarity: Similarity | str = "cosine",
    same_set: bool = False,
    per_query: bool = False,
) -> Value:
    """Mean average precision at R, in [0, 1]: R is the number of relevant candidates of each query.

    ``1/R * sum over i <= R of precision(i) * [candidate i is relevant]``, averaged over the queries
    with R > 0. Inputs, ties and errors are those of ``ranks``; ``per_query``
    gives the values themselves, float64, NaN for a query without a relevant candidate.

    Raises:
        ValueError: also if no query has a relevant candidate.

    Example:
        >>> x = torch.tensor([[1.0, 0], [1.0, 0.1], [0, 1.0], [0.1, 1.0]])
        >>> labels = torch.tensor([0, 0, 1, 1])
        >>> map_at_r(x, x, labels, same_set=True)
        1.0

    Source: Musgrave et al., A Metric Learning Reality Check (ECCV 2020), section 2.3.
    """

    def average_precision(block: Standing, counts: Tensor) -> Tensor:
        inside = block.valid & (block.positions < counts[:, None])
        nth = torch.arange(1, inside.shape[1] + 1, device=counts.device)
        return (
            torch.where(inside, nth / (block.positions + 1).to(torch.float64), 0.0).sum(1) / counts
        )

    relevant = relevant_to(queries, candidates, query_ids, candidate_ids, relevance, same_set)
    return mean_of(average_precision, queries, candidates, relevant, similarity, per_query)


@torch.no_grad()
def r_precision(
    queries: Float[Tensor, "n d"],
    candidates: Float[Tensor, "m d"],
    query_ids: Int[Tensor, "n"] | None = None,
    candidate_ids: Int[Tensor, "m"] | None = None,
    *,
    relevance: Relevance = None,
    similarity: Similarity | str = "cosine",
    same_set: bool = False,
    per_query: bool = False,
) -> Value:
    """The fraction, in [0, 1], of relevant ones among the first R candidates, R as in ``map_at_r``.

    Averaged over the queries with R > 0. Inputs, ties and errors are those of ``ranks``; ``per_query``
    gives the values themselves, float64, NaN for a query without a relevant candidate.

    Raises:
        ValueError: also if no query has a relevant candidate.

    Example:
        >>> x = torch.tensor([[1.0, 0], [1.0, 0.1], [0, 1.0], [0.1, 1.0]])
        >>> labels = torch.tensor([0, 0, 1, 1])
        >>> r_precision(x, x, labels, same_set=True)
        1.0

    Source: Musgrave et al., A Metric Learning Reality Check (ECCV 2020), section 2.3.
    """

    def precision(block: Standing, counts: Tensor) -> Tensor:
        inside = block.valid & (block.positions < counts[:, None])
        return inside.sum(1).to(torch.float64) / counts

    relevant = relevant_to(queries, candidates, query_ids, candidate_ids, relevance, same_set)
    return mean_of(precision, queries, candidates, relevant, similarity, per_query)


@torch.no_grad()
def ndcg(
    queries: Float[Tensor, "n d"],
    candidates: Float[Tensor, "m d"],
    query_ids: Int[Tensor, "n"] | None = None,
    candidate_ids: Int[Tensor, "m"] | None = None,
    *,
    relevance: Float[Tensor, "n m"] | None = None,
    k: int | None = None,
    similarity: Similarity | str = "cosine",
    same_set: bool = False,
    per_query: bool = False,
) -> Value:
    """Normalised discounted cumulative gain, in [0, 1].

    The sum of ``gain / log2(position + 1)``, positions from 1, over the largest that any order
    reaches; averaged over the queries that have gain. Among tied candidates the least gain comes
    first. Inputs, ties and errors are else those of ``ranks``; ``per_query`` gives the values themselves.

    Args:
        queries, candidates, query_ids, candidate_ids, similarity, same_set: as in ``ranks``; a
            candidate with the query's id has gain 1.
        relevance: graded gains of at least 0 in place of ids: an n x m matrix, dense or sparse
            (COO or CSR: memory for its entries only). For exponential gains pass
            ``2 ** grades - 1``.
        k: only the first k candidates count; None for all.

    Raises:
        ValueError: also for ids and relevance together, a wrong shape, negative gains, k < 1, or
            if no query has gain.

    Example:
        >>> queries, documents = torch.eye(2), torch.eye(2)
        >>> ndcg(queries, documents, relevance=torch.tensor([[3.0, 1.0], [0.0, 2.0]]))
        1.0

    Source: Järvelin and Kekäläinen, Cumulated gain-based evaluation of IR techniques (TOIS 2002).
    """
    if k is not None:
        k = check_count("k", k)
    if relevance is None:
        relevant = by_ids(queries, candidates, query_ids, candidate_ids, same_set)
    elif query_ids is not None or candidate_ids is not None:
        raise ValueError("ids and relevance are both given: pass one of them")
    else:
        relevant = by_gains(queries, candidates, relevance, same_set)
    cut = len(candidates) if k is None else k

    def normalised_gain(block: Standing, counts: Tensor) -> Tensor:
        gains = block.valid.to(torch.float64) if block.gains is None else block.gains * block.valid
        first = torch.arange(gains.shape[1], device=gains.device)
        best = gains.sort(dim=1, descending=True).values
        return discount(gains, block.positions, cut) / discount(best, first, cut)

    return mean_of(normalised_gain, queries, candidates, relevant, similarity, per_query)


def discount(gains: Float[Tensor, "r l"], positions: Tensor, cut: int) -> Float[Tensor, "r"]:
    """The discounted sum of the gains at positions from 0, as far as ``cut``."""
    discount = torch.where(positions < cut, 1 / torch.log2(positions.to(torch.float64) + 2), 0.0)
    return (gains * discount).sum(1)
