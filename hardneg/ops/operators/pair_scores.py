"""``pairs`` as an operator: scores of listed pairs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from torch import Tensor

from hardneg.ops.comparison import Embeddings
from hardneg.ops.operators.registration import Gradients, Operator, empty_gradient
from hardneg.ops.requests import Engine, Wanted
from hardneg.ops.tiled.pair_gradients import pair_scores_backward
from hardneg.ops.tiled.pair_scores import pair_scores
from hardneg.similarities import score_dtype

if TYPE_CHECKING:
    from jaxtyping import Float, Int

__all__ = ["PAIR_SCORES", "Pairs"]


@dataclass(frozen=True, eq=False)
class Pairs:
    """Listed pairs; -1 for none."""

    rows: Int[Tensor, "t"]
    columns: Int[Tensor, "t"]


@dataclass(frozen=True, eq=False)
class Upstream:
    """The upstream gradient of their scores."""

    gradient: Float[Tensor, "t"]


def run(embeddings: Embeddings, pairs: Pairs, engine: Engine) -> tuple[Tensor]:
    """See ``DenseScores.pairs``."""
    given = embeddings.similarity, embeddings.queries, embeddings.candidates
    if engine.fused:
        from hardneg.ops.triton import pair_scores as kernels

        return (kernels.pair_scores(*given, pairs.rows, pairs.columns),)
    return (pair_scores(*given, pairs.rows, pairs.columns),)


def shapes(embeddings: Embeddings, pairs: Pairs, engine: Engine) -> tuple[Tensor]:
    """A score for each pair."""
    queries = embeddings.queries
    return (queries.new_empty(pairs.rows.shape, dtype=score_dtype(queries)),)


def run_backward(
    embeddings: Embeddings, pairs: Pairs, engine: Engine, upstream: Upstream, wanted: Wanted
) -> tuple[Tensor, Tensor]:
    """Gradients of queries and candidates."""
    given = embeddings.similarity, embeddings.queries, embeddings.candidates
    listed = pairs.rows, pairs.columns, upstream.gradient.contiguous()
    if engine.fused:
        from hardneg.ops.triton import pair_scores as kernels

        return kernels.pair_scores_backward(*given, *listed, wanted)
    return pair_scores_backward(*given, *listed, wanted)


def gradient_shapes(
    embeddings: Embeddings, pairs: Pairs, engine: Engine, upstream: Upstream, wanted: Wanted
) -> tuple[Tensor, Tensor]:
    """Gradients of queries and candidates, empty for a frozen side."""
    return (
        empty_gradient(embeddings.queries, wanted.queries),
        empty_gradient(embeddings.candidates, wanted.candidates),
    )


PAIR_SCORES = Operator("pair_scores", (Embeddings, Pairs, Engine), 1, run, shapes)
BACKWARD = Operator(
    "pair_scores_backward",
    (Embeddings, Pairs, Engine, Upstream, Wanted),
    2,
    run_backward,
    gradient_shapes,
)


def backward(
    requests: tuple[Embeddings, Pairs, Engine],
    results: tuple[Tensor, ...],
    upstream: tuple[Tensor],
    needed: set[str],
) -> Gradients:
    """Gradients of queries and candidates."""
    wanted = Wanted("queries" in needed, "candidates" in needed, False)
    dq, dc = BACKWARD(*requests, Upstream(upstream[0]), wanted)
    return {"queries": dq, "candidates": dc}


PAIR_SCORES.differentiate(backward, 1, by=BACKWARD)
