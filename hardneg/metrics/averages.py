"""Averages over ranks: recall@k, median and mean rank, mean reciprocal rank."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from hardneg.checks import check_count

if TYPE_CHECKING:
    from jaxtyping import Int

__all__ = ["mean_rank", "mean_reciprocal_rank", "median_rank", "recall_at_k", "success_at_k"]


def check_ranks(ranks: Any) -> Int[Tensor, "r"]:
    """The ranks of queries that have a relevant candidate."""
    if not isinstance(ranks, Tensor):
        raise TypeError(
            f"ranks is a {type(ranks).__name__}: expected the tensor that ranks() returns"
        )
    if ranks.dim() != 1 or ranks.dtype.is_floating_point or ranks.dtype == torch.bool:
        raise TypeError(
            f"ranks is {ranks.dtype} of shape {tuple(ranks.shape)}: expected "
            "integers of shape (n,), as ranks() returns them"
        )
    kept = ranks[ranks >= 0]
    if len(kept) == 0:
        raise ValueError("no query has a relevant candidate: compare the ids of both sides")
    return kept


def recall_at_k(ranks: Int[Tensor, "n"], k: int) -> float:
    """The fraction, in [0, 1], of queries with a relevant candidate among the first k.

    That is what image-text retrieval and metric learning report as recall@k, and information retrieval calls
    success@k (``success_at_k``); the share of a query's relevant candidates among the first k is ``list_recall_at_k``.

    Args:
        ranks: ranks from 0; negative ones (no relevant candidate) are left out.
        k: how many candidates are retrieved, at least 1.

    Raises:
        ValueError: if k < 1 or no query has a relevant candidate.

    Example:
        >>> recall_at_k(torch.tensor([0, 3, 1, -1, 9]), 2)
        0.5
    """
    k = check_count("k", k)
    found = check_ranks(ranks)
    return int((found < k).sum()) / len(found)


success_at_k = recall_at_k
"""The name of information retrieval for ``recall_at_k``."""


def median_rank(ranks: Int[Tensor, "n"]) -> int:
    """The median rank from 1: ``floor(median) + 1`` of ranks from 0, as VSE++'s authors count it.

    Raises:
        ValueError: if no query has a relevant candidate.

    Example:
        >>> median_rank(torch.tensor([0, 1, 4, 8]))
        3
    """
    rising = check_ranks(ranks).sort().values
    middle = len(rising) // 2
    lower = rising[middle] if len(rising) % 2 else rising[middle - 1]
    return int(lower + rising[middle]) // 2 + 1


def mean_rank(ranks: Int[Tensor, "n"]) -> float:
    """The mean rank from 1.

    Raises:
        ValueError: if no query has a relevant candidate.

    Example:
        >>> mean_rank(torch.tensor([0, 1, 4, 7]))
        4.0
    """
    found = check_ranks(ranks)
    return int(found.sum()) / len(found) + 1


def mean_reciprocal_rank(ranks: Int[Tensor, "n"], k: int | None = None) -> float:
    """The mean of 1 / (rank + 1), in [0, 1] (Voorhees, TREC-8 question answering track, 1999).

    Args:
        ranks: ranks from 0; negative ones (no relevant candidate) are left out.
        k: a relevant candidate behind the first k counts 0 (MRR@k); None: all count.

    Raises:
        ValueError: if k < 1 or no query has a relevant candidate.

    Example:
        >>> mean_reciprocal_rank(torch.tensor([0, 1, 3, 3]))
        0.5
    """
    found = check_ranks(ranks).cpu().to(torch.float64)
    values = 1 / (found + 1)
    if k is not None:
        values = torch.where(found < check_count("k", k), values, 0.0)
    return float(values.mean())
