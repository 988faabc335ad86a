"""Scores that the ranks have, each those of its own queries with all candidates, as a comparison of sharded rows."""

from __future__ import annotations

from torch import Tensor

from hardneg.distributed.autograd import exchange_sides
from hardneg.distributed.collectives import Ranks
from hardneg.distributed.layout import Layout
from hardneg.distributed.local_shard import as_sharded, own_queries
from hardneg.distributed.sharded_rows import ShardedRows
from hardneg.ops.comparison import Comparison
from hardneg.similarities import Given

__all__ = ["all_candidates", "swapped_rows"]


def all_candidates(comparison: Comparison) -> Tensor:
    """The candidates of all ranks; of given scores the transpose of the own rows, as ``Given`` asks for."""
    if type(comparison.similarity) is Given:
        return own_queries(as_sharded(comparison.queries)).detach().T
    return as_sharded(comparison.candidates).everywhere()


def swapped_rows(comparison: Comparison) -> Comparison:
    """Candidates against queries.

    Of given scores every rank receives the columns of an equal part of the candidates from all ranks, and so holds its
    share of the matrix twice.
    """
    if type(comparison.similarity) is not Given:
        return comparison.swapped()
    matrix = as_sharded(comparison.queries)
    rows, ranks = equal_parts(matrix.shape[1], matrix.ranks), matrix.ranks
    local = exchange_sides(matrix.local, matrix.rows, rows, ranks)
    turned: Tensor = ShardedRows(local, rows, ranks)
    return Comparison(turned, turned.detach().T, Given(), comparison.relation.swapped())


def equal_parts(total: int, ranks: Ranks) -> Layout:
    """As many rows on every rank, but for the last ones."""
    share = -(-total // ranks.size)
    lengths = tuple(max(0, min(share, total - rank * share)) for rank in range(ranks.size))
    return Layout(lengths, lengths)
