"""All scores at once, where they fit one tile, and the gradients that flow back through them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from hardneg.ops.comparison import Comparison, Embeddings
from hardneg.ops.grid import Tile
from hardneg.ops.requests import EVERYTHING, Wanted
from hardneg.ops.tiled.pair_gradients import pair_scores_backward
from hardneg.ops.tiled.pair_scores import row_lengths
from hardneg.ops.tiled.scores import tile_scores
from hardneg.similarities import Cosine, Order, upcast

if TYPE_CHECKING:
    from jaxtyping import Float

__all__ = ["score_matrix", "score_matrix_backward"]

SPARSE = 0.25
"""Of so few scores with a gradient, those of an order are differentiated one by one: all of them take the time of
more than one forward pass."""


def whole(comparison: Comparison | Embeddings) -> Tile:
    """The tile that is the matrix."""
    return Tile(slice(0, len(comparison.queries)), slice(0, len(comparison.candidates)))


def score_matrix(
    comparison: Comparison | Embeddings,
) -> tuple[Float[Tensor, "n m"], Float[Tensor, "n"], Float[Tensor, "m"]]:
    """``similarity(queries, candidates)`` in float32 or float64, and the lengths of the rows that it was divided by.

    The lengths are 0 where it was not: another similarity, rows whose products leave the range, or not a CPU.
    """
    q, c = upcast(comparison.queries), upcast(comparison.candidates)
    lengths = row_lengths(q, c) if type(comparison.similarity) is Cosine else None
    if lengths is not None:
        return torch.mm(q, c.T).div_(lengths[0][:, None]).div_(lengths[1]), *lengths
    tile = whole(comparison)
    scores = tile_scores(comparison, tile.shape).scores(tile)
    return scores, q.new_zeros(len(q)), q.new_zeros(len(c))


def score_matrix_backward(
    comparison: Comparison | Embeddings,
    scores: Float[Tensor, "n m"],
    lengths: tuple[Float[Tensor, "n"], Float[Tensor, "m"]],
    gradient: Float[Tensor, "n m"],
    wanted: Wanted = EVERYTHING,
) -> tuple[Float[Tensor, "n d"], Float[Tensor, "m d"]]:
    """Gradients of queries and candidates, from what ``score_matrix`` returned; empty for a frozen side."""
    if gradient.device.type == "cpu" and bool(lengths[0][0] > 0):
        return cosine_gradients(comparison, lengths, scores, gradient, wanted)
    if type(comparison.similarity) is Order and gradient.device.type == "cpu":
        rows, columns = gradient.nonzero(as_tuple=True)
        if len(rows) < SPARSE * gradient.numel():
            given = comparison.similarity, comparison.queries, comparison.candidates
            return pair_scores_backward(*given, rows, columns, gradient[rows, columns], wanted)
    tile = whole(comparison)
    tiles = tile_scores(comparison, tile.shape, wanted)
    tiles.recall(tile, scores)
    tiles.add_gradient(tile, gradient.clone(memory_format=torch.contiguous_format))
    return tiles.gradients()


def cosine_gradients(
    comparison: Comparison | Embeddings,
    lengths: tuple[Float[Tensor, "n"], Float[Tensor, "m"]],
    scores: Float[Tensor, "n m"],
    gradient: Float[Tensor, "n m"],
    wanted: Wanted,
) -> tuple[Float[Tensor, "n d"], Float[Tensor, "m d"]]:
    """Products with the weights, less what lies along the rows: ``sum_j gradient[i, j] * scores[i, j]`` of each."""
    queries, candidates = comparison.queries, comparison.candidates
    q, c = upcast(queries), upcast(candidates)
    weights = gradient / lengths[0][:, None]
    weights.div_(lengths[1])
    along = gradient * scores
    dq = dc = q.new_empty(0)
    if wanted.queries:
        pull = along.sum(1).div_(lengths[0].square())
        dq = torch.mm(weights, c).addcmul_(q, pull[:, None], value=-1)
    if wanted.candidates:
        pull = along.sum(0).div_(lengths[1].square())
        dc = torch.mm(weights.T, q).addcmul_(c, pull[:, None], value=-1)
    return dq, dc
