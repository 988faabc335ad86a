"""All scores of a small embeddings as an operator."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from torch import Tensor

from hardneg.ops.comparison import Embeddings
from hardneg.ops.operators.registration import Gradients, Operator, empty_gradient
from hardneg.ops.requests import Wanted
from hardneg.ops.tiled.score_matrix import score_matrix, score_matrix_backward
from hardneg.similarities import score_dtype

if TYPE_CHECKING:
    from jaxtyping import Float

__all__ = ["SCORE_MATRIX"]


@dataclass(frozen=True, eq=False)
class Computed:
    """What the forward returned, and the upstream gradient of the scores."""

    scores: Float[Tensor, "n m"]
    row_lengths: Float[Tensor, "n"]
    column_lengths: Float[Tensor, "m"]
    upstream: Float[Tensor, "n m"]


def shapes(embeddings: Embeddings) -> tuple[Tensor, ...]:
    """The matrix, and a length for each row and column."""
    n, m = embeddings.queries.shape[0], embeddings.candidates.shape[0]
    scores = embeddings.queries.new_empty(n, m, dtype=score_dtype(embeddings.queries))
    return scores, scores.new_empty(n), scores.new_empty(m)


def run_backward(embeddings: Embeddings, given: Computed, wanted: Wanted) -> tuple[Tensor, Tensor]:
    """Gradients of queries and candidates."""
    lengths = given.row_lengths, given.column_lengths
    return score_matrix_backward(embeddings, given.scores, lengths, given.upstream, wanted)


def gradient_shapes(
    embeddings: Embeddings, given: Computed, wanted: Wanted
) -> tuple[Tensor, Tensor]:
    """Gradients of queries and candidates, empty for a frozen side."""
    return (
        empty_gradient(embeddings.queries, wanted.queries),
        empty_gradient(embeddings.candidates, wanted.candidates),
    )


SCORE_MATRIX = Operator("score_matrix", (Embeddings,), 3, score_matrix, shapes)
BACKWARD = Operator(
    "score_matrix_backward", (Embeddings, Computed, Wanted), 2, run_backward, gradient_shapes
)


def backward(
    requests: tuple[Embeddings],
    results: tuple[Tensor, Tensor, Tensor],
    upstream: tuple[Tensor],
    needed: set[str],
) -> Gradients:
    """Gradients of queries and candidates."""
    wanted = Wanted("queries" in needed, "candidates" in needed, False)
    dq, dc = BACKWARD(*requests, Computed(*results, upstream=upstream[0]), wanted)
    return {"queries": dq, "candidates": dc}


SCORE_MATRIX.differentiate(backward, 1, by=BACKWARD)
