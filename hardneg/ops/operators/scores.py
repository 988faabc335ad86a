"""All scores of a small comparison as an operator."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from hardneg import similarities
from hardneg.ops.description import Comparison, Relation
from hardneg.ops.operators.registration import Arguments, differentiable, operator, vector_type
from hardneg.ops.tiled.score_matrix import score_matrix, score_matrix_backward

__all__ = ["Scores"]


class Scores(Arguments):
    """Arguments of ``scores``."""

    queries: Tensor
    candidates: Tensor
    similarity: str

    @property
    def comparison(self) -> Comparison:
        """The comparison, of nobody's relation."""
        similarity = similarities.BY_CODE[self.similarity]
        return Comparison(self.queries, self.candidates, similarity, Relation())


class ScoresBackward(Scores):
    """Arguments of its backward."""

    scores: Tensor
    gradient: Tensor


@operator(
    "scores",
    Scores,
    1,
    lambda a: a.queries.new_empty(
        a.queries.shape[0], a.candidates.shape[0], dtype=vector_type(a.queries)
    ),
)
def run(a: Scores) -> Tensor:
    """``similarity(queries, candidates)``."""
    return score_matrix(a.comparison)


@operator(
    "scores_backward",
    ScoresBackward,
    2,
    lambda a: (
        torch.empty_like(a.queries, memory_format=torch.contiguous_format),
        torch.empty_like(a.candidates, memory_format=torch.contiguous_format),
    ),
)
def run_backward(a: ScoresBackward) -> tuple[Tensor, Tensor]:
    """Gradients of queries and candidates."""
    return score_matrix_backward(a.comparison, a.scores, a.gradient)


def backward(ctx: Any, gradient: Tensor | None) -> Any:
    """Gradients of queries and candidates."""
    if gradient is None:
        return Scores.gradients()
    a, (scores,) = Scores.restore(ctx)
    dq, dc = torch.ops.hardneg.scores_backward(*a.values(), scores, gradient)
    return Scores.gradients(queries=dq, candidates=dc)


differentiable("scores", Scores, backward, by="scores_backward")
