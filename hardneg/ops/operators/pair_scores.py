"""``pair_scores`` as an operator."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from hardneg import similarities
from hardneg.ops.operators.registration import (
    Embedded,
    differentiable,
    gradient_of,
    operator,
)
from hardneg.ops.requests import Wanted
from hardneg.ops.tiled.pair_gradients import pair_scores_backward
from hardneg.ops.tiled.pair_scores import pair_scores
from hardneg.similarities import working_type

__all__ = ["Pairs"]


class Pairs(Embedded):
    """Arguments of ``pair_scores``."""

    rows: Tensor
    columns: Tensor
    similarity: str
    engine: str


class PairsBackward(Pairs):
    """Arguments of its backward."""

    gradient: Tensor
    wanted_gradients: list[bool]


@operator(
    "pair_scores",
    Pairs,
    1,
    lambda a: a.queries.new_empty(a.rows.shape, dtype=working_type(a.queries)),
)
def run(a: Pairs) -> Tensor:
    """See ``reference.pair_scores``."""
    similarity = similarities.BY_CODE[a.similarity]
    if a.engine == "triton":
        from hardneg.ops.triton import pair_scores as kernels

        return kernels.pair_scores(similarity, a.queries, a.candidates, a.rows, a.columns)
    return pair_scores(similarity, a.queries, a.candidates, a.rows, a.columns)


@operator(
    "pair_scores_backward",
    PairsBackward,
    2,
    lambda a: (
        gradient_of(a.queries, a.wanted_gradients[0]),
        gradient_of(a.candidates, a.wanted_gradients[1]),
    ),
)
def run_backward(a: PairsBackward) -> tuple[Tensor, Tensor]:
    """Gradients of queries and candidates."""
    similarity = similarities.BY_CODE[a.similarity]
    told = (similarity, a.queries, a.candidates, a.rows, a.columns, a.gradient.contiguous())
    wanted = Wanted(*a.wanted_gradients)
    if a.engine == "triton":
        from hardneg.ops.triton import pair_scores as kernels

        return kernels.pair_scores_backward(*told, wanted)
    return pair_scores_backward(*told, wanted)


def backward(ctx: Any, gradient: Tensor | None) -> Any:
    """Gradients of queries and candidates."""
    if gradient is None:
        return Pairs.gradients()
    a, _ = Pairs.restore(ctx)
    wanted = Pairs.wanted(ctx)
    dq, dc = torch.ops.hardneg.pair_scores_backward(*a.values(), gradient, wanted)
    return a.returned(dq, dc)


differentiable("pair_scores", Pairs, backward, by="pair_scores_backward")
