"""Candidates that travel from rank to rank, so that no rank holds more than three shards of them at once."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from hardneg.distributed.collectives import Ranks
from hardneg.distributed.layout import Layout, Run
from hardneg.distributed.local_shard import LocalShard, as_sharded
from hardneg.ops.comparison import Comparison, Window
from hardneg.similarities import upcast

__all__ = ["Reduced", "RingPass", "block_of", "bounds_of", "guided_shards", "ring_reduce"]


def shards(own: Tensor, layout: Layout, ranks: Ranks, steps: int) -> Iterator[tuple[int, Tensor]]:
    """``steps`` ranks and their padded rows, the own ones first; the next are on their way meanwhile."""
    held = layout.padded(own.detach()).contiguous()
    for step in range(steps):
        coming = ranks.send_to_next(held) if step + 1 < steps else None
        yield (ranks.rank - step) % ranks.size, held
        if coming is not None:
            held = coming.wait()


class Held(NamedTuple):
    """The padded rows of a rank that travel: candidates, and a guide's embeddings of them where there is one."""

    owner: int
    candidates: Tensor
    guide: Tensor | None


def guided_shards(shard: LocalShard, steps: int) -> Iterator[Held]:
    """The shards of candidates, each beside a guide's embeddings of them."""
    ranks, columns = shard.ranks, shard.comparison.relation.guide.columns
    candidates = as_sharded(shard.comparison.candidates)
    travelling = shards(candidates.local, candidates.rows, ranks, steps)
    if columns is None:
        for owner, held in travelling:
            yield Held(owner, held, None)
        return
    guides = shards(as_sharded(columns).local, candidates.rows, ranks, steps)
    for (owner, held), (_, guide) in zip(travelling, guides, strict=True):
        yield Held(owner, held, guide)


def block_of(
    shard: LocalShard,
    queries: Tensor,
    candidates: Tensor,
    columns: slice,
    guide: Tensor | None = None,
) -> Comparison:
    """The own queries against candidates that follow one another, by their global numbers."""
    relation = shard.comparison.relation
    ids, positives, ignore = relation.column_ids, relation.positives, relation.ignore
    mine = replace(
        relation,
        column_ids=None if ids is None else ids[columns],
        positives=None if positives is None else positives[:, columns],
        ignore=None if ignore is None else ignore[:, columns],
        column_offset=columns.start,
        guide=relation.guide._replace(columns=guide),
    )
    return Comparison(queries, candidates, shard.comparison.similarity, mine)


def bounds_of(shard: LocalShard, window: Window, where: slice) -> Window:
    """The bounds of the own rows and of a block's columns."""
    own = shard.window(window)
    floor, ceiling = (
        None if b is None else b[where] for b in (own.column_floor, own.column_ceiling)
    )
    return own._replace(column_floor=floor, column_ceiling=ceiling)


class Reduced(NamedTuple):
    """What a reduction says of the own rows and of a block's columns; empty where it has nothing to say."""

    rows: Tensor
    columns: Tensor
    row_counts: Tensor
    column_counts: Tensor
    row_maxima: Tensor
    column_maxima: Tensor


Vectors = tuple[Tensor | None, ...]


@dataclass(frozen=True, eq=False, repr=False)
class RingPass:
    """One reduction over all shards, one after the other.

    Attributes:
        shard: the own rows; its candidates are sharded.
        reduce: what the reduction says of one block, given the block, its columns and the vectors.
        exponential: whether the blocks' row results are log-sum-exps; else they are added.
        stays: whether the own shard is all that is needed, on every rank: then nothing is sent.
    """

    shard: LocalShard
    reduce: Callable[[Comparison, slice, Vectors], Reduced]
    exponential: bool = False
    stays: bool = False

    @property
    def layout(self) -> Layout:
        """Which candidates every rank holds."""
        return as_sharded(self.shard.comparison.candidates).rows

    def runs(self, owner: int) -> list[Run]:
        """The blocks of a shard; one row of zeros where only an own, empty shard is looked at."""
        return self.layout.runs(owner) or [Run(slice(0, 1), 0)][: self.stays]

    def block(self, queries: Tensor, held: Held, candidates: Tensor, run: Run) -> Comparison:
        """The own queries against these candidates, some of those held."""
        guide = None if held.guide is None else held.guide[run.local]
        return block_of(self.shard, queries, candidates, run.everywhere, guide)

    @property
    def steps(self) -> int:
        """How many shards are looked at."""
        return 1 if self.stays else self.shard.ranks.size

    def add(self, total: Reduced | None, found: Reduced, columns: slice) -> Reduced:
        """The results with one more block: rows grow together, columns stand side by side."""
        if total is None:
            total = self.start(found)
        for whole, block in zip(total[1::2], found[1::2], strict=True):
            if len(block):
                whole[columns] = block
        rows = (
            torch.logaddexp(total.rows, found.rows) if self.exponential else total.rows + found.rows
        )
        return total._replace(
            rows=rows,
            row_counts=total.row_counts + found.row_counts,
            row_maxima=torch.maximum(total.row_maxima, found.row_maxima),
        )

    def start(self, like: Reduced) -> Reduced:
        """Nothing added yet."""
        m = self.layout.total
        nothing = -torch.inf if self.exponential else 0.0
        rows = torch.full_like(like.rows, nothing)
        columns, counts, maxima = (
            x.new_zeros(m) if len(x) else x
            for x in (like.columns, like.column_counts, like.column_maxima)
        )
        lowest = torch.full_like(like.row_maxima, -torch.inf)
        return Reduced(rows, columns, torch.zeros_like(like.row_counts), counts, lowest, maxima)

    def pulled(
        self, found: Reduced, total: Tensor, columns: slice, upstream: tuple[Tensor, ...]
    ) -> Tensor:
        """A number whose gradient is the block's share of that of the results."""
        rows = found.rows
        if self.exponential:
            some = rows > -torch.inf
            rows = torch.where(some, (torch.where(some, rows, 0.0) - total).exp(), 0.0)
        pull = (rows * upstream[0]).sum()
        if len(found.columns):
            some = found.columns > -torch.inf
            pull = pull + (torch.where(some, found.columns, 0.0) * upstream[1][columns]).sum()
        return pull


class RingReduce(torch.autograd.Function):
    """The reduction of a trip; in backward the shards travel again, with their gradients."""

    @staticmethod
    def forward(
        ctx: Any, trip: RingPass, queries: Tensor, candidates: Tensor, *vectors: Tensor | None
    ) -> tuple[Tensor, ...]:
        """Once around."""
        total: Reduced | None = None
        for held in guided_shards(trip.shard, trip.steps):
            for run in trip.runs(held.owner):
                block = trip.block(queries, held, held.candidates[run.local], run)
                found = trip.reduce(block, run.everywhere, vectors)
                total = trip.add(total, found, run.everywhere)
        assert total is not None
        ctx.trip = trip
        ctx.save_for_backward(queries, candidates, total.rows, *vectors)
        ctx.mark_non_differentiable(*total[2:])
        return tuple(total)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *upstream: Tensor) -> tuple[Tensor | None, ...]:
        """Once around again: every rank adds its share to the gradient that comes with a shard."""
        queries, candidates, rows, *vectors = ctx.saved_tensors
        trip, ranks = ctx.trip, ctx.trip.shard.ranks
        inputs = (queries, *vectors)
        needed = (ctx.needs_input_grad[1], *ctx.needs_input_grad[3:])
        leaves = [
            None if v is None else v.detach().requires_grad_(on)
            for v, on in zip(inputs, needed, strict=True)
        ]
        sums = [
            torch.zeros_like(upcast(x)) if x is not None and x.requires_grad else None
            for x in leaves
        ]
        learnt = ctx.needs_input_grad[2]
        travelling = torch.zeros_like(upcast(trip.layout.padded(candidates))) if learnt else None
        for held in guided_shards(trip.shard, trip.steps):
            for run in trip.runs(held.owner):
                add_share(trip, run, held, leaves, rows, upstream, sums, travelling)
            if trip.steps > 1 and travelling is not None:
                travelling = ranks.send_to_next(travelling).wait()
        to_candidates = None
        if travelling is not None:
            to_candidates = travelling[: len(candidates)].to(candidates.dtype)
        back = [
            None if s is None or v is None else s.to(v.dtype)
            for s, v in zip(sums, inputs, strict=True)
        ]
        return None, back[0], to_candidates, *back[1:]


def add_share(
    trip: RingPass,
    run: Run,
    held: Held,
    leaves: list[Any],
    rows: Tensor,
    upstream: tuple[Tensor, ...],
    sums: list[Tensor | None],
    travelling: Tensor | None,
) -> None:
    """Recompute a block with its gradients and add them to those of the own rows and, unless frozen, of the shard."""
    columns, candidates = run.everywhere, held.candidates[run.local].detach()
    candidates.requires_grad_(travelling is not None)
    with torch.enable_grad():
        block = trip.block(leaves[0], held, candidates, run)
        found = trip.reduce(block, columns, tuple(leaves[1:]))
        pull = trip.pulled(found, rows, columns, upstream)
    wanted = [(x, s) for x, s in zip(leaves, sums, strict=True) if s is not None]
    if travelling is not None:
        wanted.append((candidates, travelling[run.local]))
    if not pull.requires_grad:  # what is learnt has no shard in this block
        return
    share = torch.autograd.grad(pull, [x for x, _ in wanted], allow_unused=True)
    for (_, total), gradient in zip(wanted, share, strict=True):
        if gradient is not None:
            total += gradient


def ring_reduce(trip: RingPass, *vectors: Tensor | None) -> Reduced:
    """The reduction over all shards, differentiable by embeddings and vectors."""
    queries, candidates = (
        trip.shard.comparison.queries,
        as_sharded(trip.shard.comparison.candidates),
    )
    return Reduced(*RingReduce.apply(trip, queries, candidates.local, *vectors))
