"""The rank of the best relevant candidate of every query."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from hardneg.metrics.ranking import Ranking, make_ranking
from hardneg.metrics.relevance import Relevant, relevant_to
from hardneg.metrics.standings import standings
from hardneg.metrics.work_share import all_values
from hardneg.similarities import Similarity, resolve_similarity

if TYPE_CHECKING:
    from jaxtyping import Bool, Float, Int

__all__ = ["best_ranks", "ranks"]


@torch.no_grad()
def ranks(
    queries: Float[Tensor, "n d"],
    candidates: Float[Tensor, "m d"],
    query_ids: Int[Tensor, "n"] | None = None,
    candidate_ids: Int[Tensor, "m"] | None = None,
    *,
    relevance: Float[Tensor, "n m"] | Bool[Tensor, "n m"] | None = None,
    similarity: Similarity | str = "cosine",
    same_set: bool = False,
) -> Int[Tensor, "n"]:
    """How many unrelated candidates stand before the best relevant one, for every query.

    Dense equivalent, but for the rounding bound::

        relevant = query_ids[:, None] == candidate_ids[None]
        best = scores.where(relevant, -inf).amax(1, keepdim=True)
        ranks = ((scores >= best) & ~relevant).sum(1)

    Ties count against the model: a collapsed one ranks its relevant candidates last. A rival counts
    as tied when its score lies within the rounding bound of the products
    (``hardneg.metrics.ranking.Ranking`` states it), and embeddings that are all equal to within
    the rounding of their type count as equal. Other relevant candidates are no rivals. Scores are
    float64, a few rows at a time: memory O((n + m) d) and a panel of fixed size; on a device without
    float64 (MPS, some XPU) the embeddings are copied to the CPU and ranked there, but by a callable.

    Args:
        queries: n x d embeddings of any floating-point type.
        candidates: m x d embeddings, of the same type and device.
        query_ids, candidate_ids: equal ids are relevant to each other; without them query i
            belongs to candidate i.
        relevance: in place of ids, an n x m matrix, dense or sparse (COO or CSR: memory for its entries only), of which
            entries above 0 (True) are relevant: any truth from many to many, such as ECCV Caption's and CxC's.
        similarity: a name, a similarity object or a callable (n x d, m x d) -> n x m.
        same_set: query i and candidate i are the same item, which never retrieves itself.

    Returns:
        int64 ranks from 0; -1 for a query without any relevant candidate, which averages leave out.
        A query with a NaN among its relevant scores ranks last; a NaN rival stands before it.

    Raises:
        ValueError: for mismatched shapes or devices, one-sided ids, one set without labels, or one
            tensor on both sides without ``same_set``.
        TypeError: for tensors of another type, or an unusable similarity.

    Example:
        >>> images = torch.eye(3)
        >>> captions = torch.tensor([[1.0, 0, 0], [1.0, 0, 0], [0, 0, 1.0]])
        >>> ranks(images, captions)
        tensor([1, 2, 0])

    Source: Faghri et al., VSE++ (BMVC 2018), section 4; ties as in a pessimistic rank.
    """
    resolved = resolve_similarity(similarity)
    relevant = relevant_to(queries, candidates, query_ids, candidate_ids, relevance, same_set)
    order = make_ranking(queries, candidates, resolved)
    return best_ranks(order, relevant.to(order.device)).to(queries.device)


def best_ranks(order: Ranking, relevant: Relevant) -> Int[Tensor, "n"]:
    """The first position of every query's standing, -1 where it has none."""
    blocks = (
        (block.rows, torch.where(block.valid[:, 0], block.positions[:, 0], -1))
        for block in standings(order, relevant, best_only=True)
        if block.valid.shape[1]
    )
    return all_values(torch.full_like(relevant.counts, -1), blocks)
