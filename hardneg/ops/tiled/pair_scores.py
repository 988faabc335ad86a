"""Scores of listed pairs, recomputed exactly from the embeddings."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from hardneg.ops.geometry import unit_rows
from hardneg.ops.grid import chunks
from hardneg.similarities import (
    Cosine,
    Dot,
    Given,
    Order,
    SquaredEuclidean,
    is_builtin,
    scores_of,
    upcast,
)

if TYPE_CHECKING:
    from jaxtyping import Float, Int

__all__ = [
    "Rows",
    "chunk_size",
    "in_range",
    "is_dense",
    "named_rows",
    "pair_scores",
    "products_of",
    "row_lengths",
    "separation",
]

GATHERED_ELEMENTS = 1 << 17
LARGE = 1 << 20
CALLABLE_PAIRS = 16
WORTH = 16


class Rows:
    """The rows that a chunk of pairs names: a view where they follow one another, else a copy."""

    def __init__(self, x: Float[Tensor, "n d"], pairs: int) -> None:
        self.x, self.copies = x, x.new_empty(pairs, x.shape[1])
        self.asked = x.device.type == "cpu" and x.numel() >= LARGE

    def take(self, index: Int[Tensor, "t"]) -> tuple[Float[Tensor, "t d"], slice | None]:
        """The rows, read-only, and the slice that the index spells out, if it is one."""
        run = self.run(index)
        if run is not None:
            return self.x[run], run
        return torch.index_select(self.x, 0, index, out=self.copies[: len(index)]), None

    def run(self, index: Int[Tensor, "t"]) -> slice | None:
        """The slice, where the index is one; not asked of few rows, or where it would synchronise."""
        if not self.asked:
            return None
        first, last = int(index[0]), int(index[-1]) + 1
        if last - first != len(index):
            return None
        in_order = torch.equal(index, torch.arange(first, last, device=index.device))
        return slice(first, last) if in_order else None


def chunk_size(similarity: Any, width: int, pairs: int) -> int:
    """Pairs at a time: what fits a buffer."""
    if not is_builtin(similarity):
        return CALLABLE_PAIRS
    return max(1, min(pairs, GATHERED_ELEMENTS // width))


def is_dense(n: int, m: int, pairs: int) -> bool:
    """Whether products of all rows take less time than gathering those of the pairs."""
    return n * m <= pairs * WORTH


def row_lengths(
    q: Float[Tensor, "n d"], c: Float[Tensor, "m d"]
) -> tuple[Float[Tensor, "n"], Float[Tensor, "m"]] | None:
    """Lengths of all rows where products of any two stay in range, else None; asked on a CPU only."""
    if q.device.type != "cpu":
        return None
    of_q = torch.linalg.vector_norm(q, dim=1)
    of_c = of_q if c is q else torch.linalg.vector_norm(c, dim=1)
    return (of_q, of_c) if in_range(of_q if c is q else torch.cat((of_q, of_c))) else None


def in_range(lengths: Float[Tensor, "..."]) -> bool:
    """Whether products of rows of any two of these lengths stay in range; reads them."""
    least, largest = torch.aminmax(lengths)
    shortest, longest = range_of_lengths(lengths.dtype)
    return bool(least.item() > shortest and largest.item() < longest)


@cache
def range_of_lengths(dtype: torch.dtype) -> tuple[float, float]:
    """Between which lengths products of any two rows, and their squares, stay in range."""
    info = torch.finfo(dtype)
    return info.tiny**0.25, info.max**0.25


def named_rows(
    x: Float[Tensor, "n d"], index: Int[Tensor, "t"]
) -> tuple[Float[Tensor, "k d"], Int[Tensor, "t"]]:
    """The rows that pairs name, one a pair, and the pairs' places among them; all rows unless that halves them.

    Lengths are taken of every row: of a long queue, few are in a pair. Asked on a CPU only.
    """
    if x.device.type != "cpu" or not 0 < 2 * len(index) <= len(x):
        return x, index
    return x.index_select(0, index), torch.arange(len(index))


def products_of(
    lengths: tuple[Float[Tensor, "n"], Float[Tensor, "m"]],
    rows: Int[Tensor, "t"],
    columns: Int[Tensor, "t"],
) -> Float[Tensor, "t"]:
    """What the products of listed pairs are divided by."""
    return lengths[0].index_select(0, rows).mul_(lengths[1].index_select(0, columns))


def pair_scores(
    similarity: Any,
    queries: Float[Tensor, "n d"],
    candidates: Float[Tensor, "m d"],
    rows: Int[Tensor, "t"],
    columns: Int[Tensor, "t"],
) -> Float[Tensor, "t"]:
    """See ``reference.pair_scores``."""
    valid = (rows >= 0) & (columns >= 0)
    rows, columns = rows.clamp(min=0), columns.clamp(min=0)
    if type(similarity) is Given:
        return torch.where(valid, upcast(queries[rows, columns]), 0.0)
    q, c = upcast(queries), upcast(candidates)
    if type(similarity) is Cosine:
        (q, rows), (c, columns) = named_rows(q, rows), named_rows(c, columns)
        lengths = row_lengths(q, c)
        if lengths is None:
            found = score_list(Dot(), unit_rows(q)[0], unit_rows(c)[0], rows, columns)
        else:
            found = score_list(Dot(), q, c, rows, columns)
            found = found / products_of(lengths, rows, columns)
    else:
        found = score_list(similarity, q, c, rows, columns)
    return torch.where(valid, found, 0.0)


def score_list(
    similarity: Any, q: Float[Tensor, "n d"], c: Float[Tensor, "m d"], rows: Tensor, columns: Tensor
) -> Float[Tensor, "t"]:
    """Scores of the pairs, a chunk at a time."""
    size = chunk_size(similarity, q.shape[1], len(rows))
    of_queries, of_candidates = Rows(q, size), Rows(c, size)
    scratch, found = q.new_empty(size, q.shape[1]), q.new_empty(len(rows))
    for part in chunks(len(rows), size):
        left, _ = of_queries.take(rows[part])
        right, _ = of_candidates.take(columns[part])
        found[part] = score_rows(similarity, left, right, scratch[: len(left)])
    return found


def score_rows(
    similarity: Any, q: Float[Tensor, "t d"], c: Float[Tensor, "t d"], out: Float[Tensor, "t d"]
) -> Float[Tensor, "t"]:
    """Row i of one against row i of the other; ``out`` is scratch."""
    if not is_builtin(similarity):
        with torch.no_grad():
            return scores_of(similarity, q, c).diagonal()
    if type(similarity) is Dot:
        return torch.mul(q, c, out=out).sum(1)
    distance = torch.linalg.vector_norm(separation(similarity, q, c, out), dim=1)
    result: Tensor = -distance.square() if type(similarity) is SquaredEuclidean else -distance
    return result


def separation(similarity: Any, q: Tensor, c: Tensor, out: Tensor) -> Float[Tensor, "t d"]:
    """What a distance is the length of: the difference, or the violation of an order."""
    if type(similarity) is not Order:
        return torch.sub(c, q, out=out)
    first, second = (c, q) if similarity.general == "candidates" else (q, c)
    return torch.sub(first, second, out=out).clamp_(min=0)
