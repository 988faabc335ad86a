"""Scores of listed pairs, recomputed exactly from the embeddings, with a deterministic sparse backward."""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from hardneg.ops.tiled.grid import chunks
from hardneg.ops.tiled.scores import project_out_length, unit_rows
from hardneg.similarities import Cosine, Dot, Euclidean, Order, SquaredEuclidean, is_closed, working

__all__ = ["pair_scores", "pair_scores_backward"]

GATHERED_ELEMENTS = 1 << 20
CALLABLE_PAIRS = 16


class Gathered:
    """Rows of both sides for a chunk of the pairs, in buffers that every chunk uses again."""

    def __init__(self, similarity: Any, queries: Tensor, candidates: Tensor, pairs: int) -> None:
        self.similarity = similarity
        self.q, self.c = working(queries), working(candidates)
        width = self.q.shape[1]
        self.size = min(pairs, max(CALLABLE_PAIRS, GATHERED_ELEMENTS // width))
        self.buffers = [self.q.new_empty(self.size, width) for _ in range(2)]

    def rows(self, r: Int[Tensor, "t"], c: Int[Tensor, "t"]) -> tuple[Tensor, Tensor]:
        """The rows of a chunk of pairs."""
        return (
            torch.index_select(self.q, 0, r, out=self.buffers[0][: len(r)]),
            torch.index_select(self.c, 0, c, out=self.buffers[1][: len(c)]),
        )


def pair_scores(
    similarity: Any,
    queries: Float[Tensor, "n d"],
    candidates: Float[Tensor, "m d"],
    rows: Int[Tensor, "t"],
    columns: Int[Tensor, "t"],
) -> Float[Tensor, "t"]:
    """See ``reference.pair_scores``."""
    valid = (rows >= 0) & (columns >= 0)
    r, c = rows.clamp(min=0), columns.clamp(min=0)
    gathered = Gathered(similarity, queries, candidates, len(rows))
    lengths = row_lengths(gathered.q, gathered.c) if isinstance(similarity, Cosine) else None
    size = gathered.size if is_closed(similarity) else CALLABLE_PAIRS
    found = gathered.q.new_empty(len(rows))
    for part in chunks(len(rows), max(1, size)):
        both = gathered.rows(r[part], c[part])
        if lengths is not None:
            found[part] = both[0].mul_(both[1]).sum(1)
        else:
            found[part] = score_rows(similarity, *both)
    if lengths is not None:
        found = found / (lengths[0][r] * lengths[1][c])
    return torch.where(valid, found, 0.0)


def row_lengths(
    q: Float[Tensor, "n d"], c: Float[Tensor, "m d"]
) -> tuple[Float[Tensor, "n"], Float[Tensor, "m"]] | None:
    """Lengths of all rows, where the products of any two stay in range; else None.

    Asking synchronises, so it is asked on a CPU only.
    """
    if q.device.type != "cpu":
        return None
    lengths = torch.linalg.vector_norm(q, dim=1), torch.linalg.vector_norm(c, dim=1)
    info = torch.finfo(q.dtype)
    shortest = torch.stack([x.amin() for x in lengths]).min()
    longest = torch.stack([x.amax() for x in lengths]).max()
    inside = bool(shortest > info.tiny**0.25) and bool(longest < info.max**0.25)
    return lengths if inside else None


def score_rows(similarity: Any, q: Float[Tensor, "t d"], c: Float[Tensor, "t d"]) -> Tensor:
    """Row i of one against row i of the other; may overwrite both."""
    if not is_closed(similarity):
        with torch.no_grad():
            return similarity(q, c).diagonal()
    if isinstance(similarity, Cosine):
        return unit_rows(q)[0].mul_(unit_rows(c)[0]).sum(1)
    if isinstance(similarity, Dot):
        return q.mul_(c).sum(1)
    if isinstance(similarity, Order):
        excess = c.sub_(q) if similarity.general == "candidates" else q.sub_(c)
        return -torch.linalg.vector_norm(excess.clamp_(min=0), dim=1)
    distance = torch.linalg.vector_norm(q.sub_(c), dim=1)
    return -distance if isinstance(similarity, Euclidean) else -distance.square()


def pair_scores_backward(
    similarity: Any,
    queries: Float[Tensor, "n d"],
    candidates: Float[Tensor, "m d"],
    rows: Int[Tensor, "t"],
    columns: Int[Tensor, "t"],
    gradient: Float[Tensor, "t"],
) -> tuple[Float[Tensor, "n d"], Float[Tensor, "m d"]]:
    """Gradients of queries and candidates; on a CPU only pairs with a gradient are visited."""
    live = (rows >= 0) & (columns >= 0)
    if queries.device.type == "cpu":
        which = (live & (gradient != 0)).nonzero()[:, 0]
        rows, columns, gradient = rows[which], columns[which], gradient[which]
    else:
        gradient = torch.where(live, gradient, 0.0)
        rows, columns = rows.clamp(min=0), columns.clamp(min=0)
    if isinstance(similarity, Cosine):
        return cosine_backward(queries, candidates, rows, columns, gradient)
    gathered = Gathered(similarity, queries, candidates, len(rows))
    dq, dc = torch.zeros_like(gathered.q), torch.zeros_like(gathered.c)
    size = gathered.size if is_closed(similarity) else CALLABLE_PAIRS
    for part in chunks(len(rows), max(1, size)):
        r, c = rows[part], columns[part]
        to_q, to_c = row_gradients(similarity, *gathered.rows(r, c), gradient[part])
        accumulate_rows(dq, r, to_q)
        accumulate_rows(dc, c, to_c)
    return dq.to(queries.dtype), dc.to(candidates.dtype)


def cosine_backward(
    queries: Tensor, candidates: Tensor, rows: Tensor, columns: Tensor, gradient: Tensor
) -> tuple[Tensor, Tensor]:
    """The inner product's gradient on normalised rows, then back through the normalisation once a row."""
    (q, inverse_q), (c, inverse_c) = unit_rows(working(queries)), unit_rows(working(candidates))
    dq, dc = pair_scores_backward(Dot(), q, c, rows, columns, gradient)
    project_out_length(dq, q, inverse_q)
    project_out_length(dc, c, inverse_c)
    return dq.to(queries.dtype), dc.to(candidates.dtype)


def row_gradients(
    similarity: Any, q: Float[Tensor, "t d"], c: Float[Tensor, "t d"], gradient: Float[Tensor, "t"]
) -> tuple[Float[Tensor, "t d"], Float[Tensor, "t d"]]:
    """Gradients of row i of both sides; may overwrite both."""
    if not is_closed(similarity):
        with torch.enable_grad():
            q, c = q.clone().requires_grad_(), c.clone().requires_grad_()
            return torch.autograd.grad(similarity(q, c).diagonal(), (q, c), gradient)
    if isinstance(similarity, Dot):
        q.mul_(gradient[:, None])
        c.mul_(gradient[:, None])
        return c, q
    if isinstance(similarity, SquaredEuclidean):
        toward = c.sub_(q).mul_(2 * gradient[:, None])
        return toward, torch.neg(toward, out=q)
    if isinstance(similarity, Euclidean):
        away = c.sub_(q)
    else:
        away = (c.sub_(q) if similarity.general == "candidates" else q.sub_(c)).clamp_(min=0)
    distance = torch.linalg.vector_norm(away, dim=1)
    share = torch.where(distance > 0, gradient / distance, 0.0)
    toward = away.mul_(share[:, None])
    other = -toward
    if isinstance(similarity, Order) and similarity.general == "queries":
        return other, toward
    return toward, other


def accumulate_rows(
    out: Float[Tensor, "n d"], index: Int[Tensor, "t"], values: Float[Tensor, "t d"]
) -> None:
    """``out[index] += values`` in a fixed order: a loop on a CPU, sorted segments elsewhere."""
    if out.device.type == "cpu":
        out.index_add_(0, index, values)
    else:
        out.index_put_((index,), values, accumulate=True)
