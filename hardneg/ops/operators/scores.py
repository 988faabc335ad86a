"""All scores of a small comparison as an operator."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from hardneg import similarities
from hardneg.ops.description import Comparison, Relation
from hardneg.ops.operators.registration import (
    Embedded,
    differentiable,
    gradient_of,
    operator,
)
from hardneg.ops.requests import Wanted
from hardneg.ops.tiled.score_matrix import score_matrix, score_matrix_backward
from hardneg.similarities import working_type

__all__ = ["Scores"]


class Scores(Embedded):
    """Arguments of ``scores``."""

    similarity: str

    @property
    def comparison(self) -> Comparison:
        """The comparison, of nobody's relation."""
        similarity = similarities.BY_CODE[self.similarity]
        return Comparison(self.queries, self.candidates, similarity, Relation())


class ScoresBackward(Scores):
    """Arguments of its backward."""

    scores: Tensor
    row_lengths: Tensor
    column_lengths: Tensor
    gradient: Tensor
    wanted_gradients: list[bool]


def shapes(a: Scores) -> tuple[Tensor, ...]:
    """The matrix, and a length for each row and column."""
    n, m = a.queries.shape[0], a.candidates.shape[0]
    scores = a.queries.new_empty(n, m, dtype=working_type(a.queries))
    return scores, scores.new_empty(n), scores.new_empty(m)


@operator("scores", Scores, 3, shapes)
def run(a: Scores) -> tuple[Tensor, ...]:
    """``similarity(queries, candidates)``, and the lengths of the rows for the backward."""
    return score_matrix(a.comparison)


@operator(
    "scores_backward",
    ScoresBackward,
    2,
    lambda a: (
        gradient_of(a.queries, a.wanted_gradients[0]),
        gradient_of(a.candidates, a.wanted_gradients[1]),
    ),
)
def run_backward(a: ScoresBackward) -> tuple[Tensor, Tensor]:
    """Gradients of queries and candidates."""
    lengths = a.row_lengths, a.column_lengths
    wanted = Wanted(*a.wanted_gradients)
    return score_matrix_backward(a.comparison, a.scores, lengths, a.gradient, wanted)


def backward(ctx: Any, gradient: Tensor | None, *_: None) -> Any:
    """Gradients of queries and candidates."""
    if gradient is None:
        return Scores.gradients()
    a, results = Scores.restore(ctx)
    wanted = Scores.wanted(ctx)
    dq, dc = torch.ops.hardneg.scores_backward(*a.values(), *results, gradient, wanted)
    return a.returned(dq, dc)


differentiable("scores", Scores, backward, by="scores_backward")
