"""A metric in both directions: candidates retrieved by query, and queries by candidate."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from hardneg.checks import check_choice
from hardneg.ops.comparison import Transposed
from hardneg.similarities import Similarity, resolve_similarity

if TYPE_CHECKING:
    from jaxtyping import Bool, Float, Int

__all__ = ["both_directions", "swapped"]


def both_directions(
    metric: Callable[..., Any],
    queries: Float[Tensor, "n d"],
    candidates: Float[Tensor, "m d"],
    query_ids: Int[Tensor, "n"] | None = None,
    candidate_ids: Int[Tensor, "m"] | None = None,
    *,
    directions: str = "both",
    relevance: Float[Tensor, "n m"] | Bool[Tensor, "n m"] | None = None,
    similarity: Similarity | str = "cosine",
    **options: Any,
) -> dict[str, Any]:
    """A metric by direction, under the names that the losses' ``directions`` have.

    Args:
        metric: of this package, such as ``ranks`` or ``map_at_k``, or a function of the same arguments.
        queries, candidates, query_ids, candidate_ids, similarity: as the metric takes them.
        directions: ``"both"``, ``"queries"`` or ``"candidates"``.
        relevance: n x m, dense or sparse; transposed for the other direction.
        options: of the metric, such as ``k`` and ``per_query``.

    Without ids and ``relevance`` row i of both belongs together; further rows of the longer side have no partner.

    Returns:
        What the metric returns under ``"queries"``, where candidates are retrieved by query (``image_to_text`` of
        ``retrieval_metrics(images, captions)``), and ``"candidates"``, where queries are retrieved by candidate.

    Raises:
        ValueError: for other directions, or ``same_set``, which has one direction; else as the metric.

    Example:
        >>> both_directions(precision_at_k, torch.eye(2), torch.eye(2)[[0, 0, 1]], torch.arange(2),
        ...     torch.tensor([0, 0, 1]), k=2)
        {'queries': 0.75, 'candidates': 0.5}
    """
    check_choice("directions", directions, ("both", "queries", "candidates"))
    if options.get("same_set"):
        raise ValueError("same_set=True has one direction: call the metric itself")
    there = resolve_similarity(similarity)
    if query_ids is None and candidate_ids is None and relevance is None:
        query_ids = torch.arange(len(queries), device=queries.device)
        candidate_ids = torch.arange(len(candidates), device=candidates.device)
    calls: dict[str, tuple[tuple[Any, ...], Any, Similarity]] = {
        "queries": ((queries, candidates, query_ids, candidate_ids), relevance, there),
        "candidates": (
            (candidates, queries, candidate_ids, query_ids),
            transposed(relevance),
            swapped(there),
        ),
    }
    found = {}
    for direction, (rows, relevant, similar) in calls.items():
        if directions in ("both", direction):
            more = {} if relevant is None else {"relevance": relevant}
            found[direction] = metric(*rows, similarity=similar, **more, **options)
    return found


def swapped(similarity: Similarity) -> Similarity:
    """The similarity with queries and candidates exchanged."""
    if hasattr(similarity, "swapped"):
        found: Similarity = similarity.swapped()
        return found
    return Transposed(similarity)


def transposed(relevance: Tensor | None) -> Tensor | None:
    """Candidates by queries; of any layout. What is no matrix stays, for the metric to refuse."""
    if not isinstance(relevance, Tensor) or relevance.dim() != 2:
        return relevance
    dense = relevance.layout == torch.strided
    return (relevance if dense else relevance.to_sparse_coo()).t()
