"""Fused ``pair_scores`` and its deterministic sparse backward."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from hardneg.ops.triton.lengths import inverse_lengths
from hardneg.ops.triton.operands import with_rows
from hardneg.ops.triton.pairs import listed_scores
from hardneg.ops.triton.segments import gathered_gradient

__all__ = ["pair_scores", "pair_scores_backward"]


def pair_scores(
    similarity: Any, queries: Tensor, candidates: Tensor, rows: Tensor, columns: Tensor
) -> Tensor:
    """See ``reference.pair_scores``."""
    return listed_scores(similarity, queries, candidates, rows, columns)


def pair_scores_backward(
    similarity: Any,
    queries: Tensor,
    candidates: Tensor,
    rows: Tensor,
    columns: Tensor,
    gradient: Tensor,
) -> tuple[Tensor, Tensor]:
    """Gradients of queries and candidates; the scores are computed anew, which one launch does."""
    q, c = with_rows(queries), with_rows(candidates)
    rows, columns = rows.contiguous(), columns.contiguous()  # a list may be one number, expanded
    scores = listed_scores(similarity, q, c, rows, columns)
    inverse: tuple[Tensor | None, Tensor | None] = (None, None)
    if similarity.code == "cosine":
        inverse = inverse_lengths(q), inverse_lengths(c)
    # both lists in one sort; stable, so that pairs of one row keep their order
    ordered, order = torch.stack((rows, columns)).sort(dim=1, stable=True)
    of_queries, of_candidates = (q, inverse[0]), (c, inverse[1])
    weights = gradient, scores
    swapped = similarity.swapped().code
    return (
        gathered_gradient(
            similarity.code,
            of_queries,
            of_candidates,
            (ordered[0], order[0], columns),
            weights,
            queries.dtype,
        ),
        gathered_gradient(
            swapped,
            of_candidates,
            of_queries,
            (ordered[1], order[1], rows),
            weights,
            candidates.dtype,
        ),
    )
