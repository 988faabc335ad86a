"""A rank's part of a comparison: its own queries against the candidates of all ranks."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import torch
from torch import Tensor

from hardneg.distributed.autograd import reduce_from_ranks
from hardneg.distributed.collectives import Ranks
from hardneg.distributed.layout import Layout
from hardneg.distributed.sharded_rows import ShardedRows
from hardneg.ops.backends import bind_large
from hardneg.ops.comparison import Comparison, Relation, Window
from hardneg.ops.guide import Guide
from hardneg.ops.scores import Backend, Scores

__all__ = ["LocalShard", "as_sharded", "local_shard"]


@dataclass(frozen=True, eq=False, repr=False)
class LocalShard:
    """What a rank computes of a comparison, and how its results become those of all rows.

    A rank without rows computes one row of zeros that admits nobody, so that it takes part in every
    collective and in the backward like the others.

    Attributes:
        comparison: own queries and all candidates, by their global numbers.
        backend: what computes the reductions here.
        rows: which queries every rank holds.
    """

    comparison: Comparison
    backend: str | Backend
    rows: Layout
    ranks: Ranks

    @cached_property
    def scores(self) -> Scores:
        """The scores of the local queries."""
        return self.bind(self.comparison)

    def bind(self, block: Comparison) -> Scores:
        """The scores of a block of them.

        Never those of a small matrix: selections of several ranks are compared by their scores, which a product of
        another shape would round otherwise.
        """
        return bind_large(self.backend, block)

    @property
    def start(self) -> int:
        """The global number of the first own row."""
        return self.rows.start(self.ranks.rank)

    @property
    def count(self) -> int:
        """How many rows are this rank's own."""
        return self.rows.lengths[self.ranks.rank]

    def rows_of(self, vector: Tensor | None) -> Tensor | None:
        """The own rows' entries of a vector over all rows; without any, some other's, for its history."""
        if vector is None:
            return None
        return vector[self.start : self.start + self.count] if self.count else vector[:1]

    def one_seed(self, seed: Tensor | None) -> Tensor | None:
        """The first rank's seed, where there is one."""
        return None if seed is None else self.ranks.broadcast(seed)

    def window(self, window: Window) -> Window:
        """The bounds of the own rows, and of all columns."""
        floor, ceiling = self.rows_of(window.row_floor), self.rows_of(window.row_ceiling)
        return Window(floor, ceiling, window.column_floor, window.column_ceiling)

    def gather_rows(self, own: Tensor) -> Tensor:
        """The entries of all rows, on every rank, from those that each rank computed."""
        found: Tensor = reduce_from_ranks(
            place(own[: self.count], self.start, self.rows.total), self.ranks
        )
        return found

    def own_scores(self, embeddings: Tensor) -> Tensor:
        """Scores of all queries with embeddings of their own, of which every rank scores those that it holds."""
        own, queries = as_sharded(embeddings).local, self.comparison.queries
        if not self.count:
            own = own.new_zeros(1, *own.shape[1:])
        block = Comparison(queries, own.flatten(0, 1), self.comparison.similarity, Relation())
        return self.gather_rows(self.bind(block).own_scores(own))

    def gather_list(self, own: Tensor) -> Tensor:
        """One list on every rank: the ranks' lists, of any length, one after the other."""
        length = torch.tensor([own.shape[0]], device=own.device)
        lengths = self.ranks.all_gather(length).flatten().tolist()
        start = sum(lengths[: self.ranks.rank])
        found: Tensor = reduce_from_ranks(place(own, start, sum(lengths)), self.ranks)
        return found


def place(own: Tensor, start: int, total: int) -> Tensor:
    """``own`` as the entries from ``start`` on of a tensor with ``total`` entries, the others 0."""
    before = own.new_zeros(start, *own.shape[1:])
    behind = own.new_zeros(total - start - own.shape[0], *own.shape[1:])
    return torch.cat([before, own, behind])


def local_shard(comparison: Comparison, candidates: Tensor, backend: str | Backend) -> LocalShard:
    """This rank's part of a comparison of sharded rows, with these candidates in their place."""
    queries, similarity = as_sharded(comparison.queries), comparison.similarity
    check_consecutive(queries.rows)
    relation = own_relation(comparison, gathered=not isinstance(candidates, ShardedRows))
    mine = Comparison(own_queries(queries), candidates, similarity, relation)
    return LocalShard(mine, backend, queries.rows, queries.ranks)


def check_consecutive(rows: Layout) -> None:
    """Anchors of a rank follow one another in the global order."""
    if rows.heads != rows.lengths:
        raise ValueError(
            "AcrossRanks: candidates as anchors, some of which have no partner on their rank: their rows do not "
            'follow one another in the global order; use directions="queries", or pass as many rows of both'
        )


def as_sharded(x: Tensor) -> ShardedRows:
    """Embeddings, or a mask, as ``AcrossRanks`` hands them to a loss."""
    assert isinstance(x, ShardedRows)
    return x


def own_queries(queries: ShardedRows) -> Tensor:
    """The own queries; a row of zeros where there are none."""
    x = queries.local
    return x if x.shape[0] else torch.cat([x, x.new_zeros(1, x.shape[1])])


def own_relation(comparison: Comparison, *, gathered: bool) -> Relation:
    """The relation of the own rows to all columns; ``gathered``: with a guide's columns of all ranks."""
    queries, relation = as_sharded(comparison.queries), comparison.relation
    rows, rank = queries.rows, queries.ranks.rank
    start, count = rows.start(rank), rows.lengths[rank]
    ids = None if relation.row_ids is None else relation.row_ids[start : start + count]
    positives, ignore = (own_mask(m, rows) for m in (relation.positives, relation.ignore))
    if not count:
        nobody = torch.zeros(
            1, comparison.candidates.shape[0], dtype=torch.bool, device=queries.device
        )
        ids = None if relation.row_ids is None else relation.row_ids[:1]
        positives, ignore = None if positives is None else nobody, ~nobody
    guide = own_guide(relation.guide, rows, rank, gathered)
    return replace(
        relation, row_ids=ids, positives=positives, ignore=ignore, row_offset=start, guide=guide
    )


def own_guide(guide: Guide, rows: Layout, rank: int, gathered: bool) -> Guide:
    """The guide of the own rows to all columns."""
    if guide.rows is None or guide.columns is None or guide.bounds is None:
        return guide
    start, count = rows.start(rank), rows.lengths[rank]
    bounds = guide.bounds[start : start + count] if count else guide.bounds[:1]
    columns = as_sharded(guide.columns)
    return Guide(
        own_queries(as_sharded(guide.rows)), columns.everywhere() if gathered else columns, bounds
    )


def own_mask(mask: Tensor | None, rows: Layout) -> Tensor | None:
    """The own rows of a mask."""
    return None if mask is None else as_sharded(mask).own_rows(rows)
