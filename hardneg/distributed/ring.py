"""``RingScores``: candidates pass from rank to rank; O(n d / W) memory, reductions in blocks of columns."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import NoReturn

import torch
from torch import Tensor

from hardneg.distributed.all_gather import (
    all_logsumexp,
    all_sums,
    counts_and_maxima,
    gather_pairs,
    own_terms,
)
from hardneg.distributed.autograd import copy_to_ranks, reduce_from_ranks
from hardneg.distributed.local_shard import LocalShard, as_sharded, local_shard
from hardneg.distributed.ring_passes import Reduced, RingPass, Vectors, bounds_of, ring_reduce
from hardneg.distributed.ring_select import ring_select
from hardneg.ops.comparison import Among, Comparison
from hardneg.ops.requests import (
    BatchAllTerms,
    ExponentialTerms,
    PairSearch,
    PenaltyTerms,
    Search,
    SelectedTerms,
)
from hardneg.ops.scores import (
    Backend,
    BatchAll,
    LogSumExp,
    Scores,
    Selected,
    SelectedSums,
    Sums,
    Total,
)
from hardneg.ops.selected_terms import listed_penalty
from hardneg.ops.tiled import relation

__all__ = ["Ring", "RingScores"]


@dataclass(frozen=True)
class Ring:
    """The local queries against one shard of candidates after the other; exact.

    Attributes:
        backend: what computes the reductions on every rank.
    """

    backend: str | Backend = "auto"

    def scores(self, comparison: Comparison) -> RingScores:
        """The scores of a comparison of sharded rows."""
        return RingScores(comparison, self.backend)


class RingScores(Scores):
    """Row results add up over the shards; column results stand side by side."""

    def __init__(self, comparison: Comparison, backend: str | Backend) -> None:
        self.comparison, self.backend = comparison, backend

    @property
    def shard(self) -> LocalShard:
        """The rows of this rank; its candidates are still spread over the ranks."""
        return local_shard(self.comparison, self.comparison.candidates, self.backend)

    def swapped(self) -> RingScores:
        """See ``Scores``."""
        return RingScores(self.comparison.swapped(), self.backend)

    def select(self, search: Search) -> Selected:
        """See ``Scores``. All that is looked for is found on one way around."""
        return ring_select(self.shard, search)

    def select_per_pair(self, search: PairSearch) -> Tensor:
        """Needs whole rows of scores."""
        return needs_whole_rows("ceiling for each (anchor, positive) pair, such as semi-hard's")

    def pairs(self, rows: Tensor, columns: Tensor) -> Tensor:
        """See ``Scores``. The rank that holds the query computes the score when the candidate is there."""
        shard = self.shard
        flat_rows, flat_columns = rows.reshape(-1), columns.reshape(-1)
        own = (flat_rows >= shard.start) & (flat_rows < shard.start + shard.count)

        def reduce(block: Comparison, where: slice, vectors: Vectors) -> Reduced:
            here = own & (flat_columns >= where.start) & (flat_columns < where.stop)
            which = here.nonzero()[:, 0]
            found = shard.bind(block).pairs(
                flat_rows[which] - shard.start, flat_columns[which] - where.start
            )
            values = found.new_zeros(flat_rows.shape).index_copy(0, which, found)
            return only_rows(values)

        stays = held_together(shard, flat_rows, flat_columns)
        values = ring_reduce(RingPass(shard, reduce, stays=stays)).rows
        result: Tensor = reduce_from_ranks(values, shard.ranks).view(rows.shape)
        return result

    def own_scores(self, embeddings: Tensor) -> Tensor:
        """See ``Scores``."""
        return self.shard.own_scores(embeddings)

    def shared_seed(self, seed: Tensor | None) -> Tensor | None:
        """See ``Scores``."""
        return self.shard.one_seed(seed)

    def magnitudes(self, rows: Tensor, columns: Tensor) -> Tensor:
        """See ``Scores``. The rank that holds the query answers when the candidate is there."""
        shard = self.shard

        def reduce(block: Comparison, where: slice, vectors: Vectors) -> Reduced:
            here = (rows >= shard.start) & (rows < shard.start + shard.count)
            which = (here & (columns >= where.start) & (columns < where.stop)).nonzero()[:, 0]
            listed = rows[which] - shard.start, columns[which] - where.start
            found = shard.bind(block).magnitudes(*listed)
            return only_rows(found.new_zeros(rows.shape).index_copy(0, which, found))

        with torch.no_grad():
            ring_pass = RingPass(shard, reduce, stays=held_together(shard, rows, columns))
            return shard.ranks.sum(ring_reduce(ring_pass).rows)

    def penalty_sum(self, terms: PenaltyTerms) -> Sums:
        """See ``Scores``."""
        shard = self.shard

        def reduce(block: Comparison, where: slice, vectors: Vectors) -> Reduced:
            of_block = block_terms(shard, terms, where, vectors)
            return Reduced(*shard.bind(block).penalty_sum(of_block))

        vectors = differentiable_vectors(shard, terms)
        return all_sums(shard, terms, ring_reduce(RingPass(shard, reduce), *vectors))

    def penalty_total(
        self,
        terms: PenaltyTerms,
        row_weights: Tensor | None,
        column_weights: Tensor | None = None,
    ) -> Total:
        """See ``Scores``. The gradients take a second way around, 8nmd in all."""
        shard = self.shard

        def reduce(block: Comparison, where: slice, vectors: Vectors) -> Reduced:
            total = shard.bind(block).penalty_total(
                block_terms(shard, terms, where, vectors),
                shard.rows_of(row_weights),
                None if column_weights is None else column_weights[where],
            )
            return Reduced(total.value, total.value.new_zeros(0), *total[1:])

        found = ring_reduce(RingPass(shard, reduce), *differentiable_vectors(shard, terms))
        value = reduce_from_ranks(found.rows, shard.ranks)
        return Total(value, *counts_and_maxima(shard, terms, found))

    def batch_all(self, terms: BatchAllTerms) -> BatchAll:
        """Needs whole rows of scores."""
        return needs_whole_rows("batch-all (all positives against all negatives)")

    def selected_penalty(self, terms: SelectedTerms) -> SelectedSums:
        """See ``Scores``. All pairs are listed; those under a ceiling need whole rows."""
        if terms.ceiling is not None:
            needs_whole_rows("ceiling for each (anchor, positive) pair, such as semi-hard's")
        return listed_penalty(self, terms)

    def logsumexp(self, terms: ExponentialTerms) -> LogSumExp:
        """See ``Scores``."""
        shard = self.shard

        def reduce(block: Comparison, where: slice, vectors: Vectors) -> Reduced:
            bounds = bounds_of(shard, terms.window, where)
            of_block = replace(terms, scale=vectors[0], window=bounds)
            found = shard.bind(block).logsumexp(of_block)
            none = found.rows.new_zeros(0, dtype=torch.long)
            return Reduced(*found[:2], none, none, *found[2:])

        ring_pass = RingPass(shard, reduce, exponential=True)
        scale = copy_to_ranks(terms.scale, shard.ranks)
        return all_logsumexp(shard, terms, ring_reduce(ring_pass, scale))

    def counts(self, among: Among) -> tuple[Tensor, Tensor]:
        """See ``Scores``. No embeddings are needed but those of a guide."""
        shard = self.shard
        if shard.comparison.relation.guide.rows is not None and among == "negatives":
            return self.guided_counts(shard)
        n, m = max(1, shard.count), self.shape[1]
        found = relation.admitted_counts(shard.comparison.relation, among, n, m, self.device)
        return shard.gather_rows(found[0]), shard.ranks.sum(found[1])

    @torch.no_grad()
    def guided_counts(self, shard: LocalShard) -> tuple[Tensor, Tensor]:
        """How many negatives a guide leaves, on one way around."""

        def reduce(block: Comparison, where: slice, vectors: Vectors) -> Reduced:
            rows, columns = shard.bind(block).counts("negatives")
            none = torch.zeros(0, dtype=self.dtype, device=self.device)
            return Reduced(none, none, rows, columns, none, none)

        found = ring_reduce(RingPass(shard, reduce))
        return shard.gather_rows(found.row_counts), shard.ranks.sum(found.column_counts)

    def positive_pairs(self) -> tuple[Tensor, Tensor]:
        """See ``Scores``. No embeddings are needed."""
        shard = self.shard
        n, m = max(1, shard.count), self.shape[1]
        found = relation.positive_pairs(shard.comparison.relation, n, m, self.device)
        return gather_pairs(shard, *found)


def held_together(shard: LocalShard, rows: Tensor, columns: Tensor) -> bool:
    """Whether one rank holds both sides of every pair, as of those in paired rows; every rank finds the same."""
    of_rows = shard.rows.holders(rows.device)
    of_columns = as_sharded(shard.comparison.candidates).rows.holders(columns.device)
    same = of_rows[rows.clamp(min=0)] == of_columns[columns.clamp(min=0)]
    return bool(((rows < 0) | (columns < 0) | same).all())


def needs_whole_rows(what: str) -> NoReturn:
    """What a rank that sees one shard at a time cannot do."""
    raise NotImplementedError(
        f"AcrossRanks(ring=True) has no {what}: it needs all candidates of an anchor at once; use "
        "AcrossRanks(loss) without ring, or negatives without a ceiling such as TopK(k)"
    )


def differentiable_vectors(shard: LocalShard, terms: PenaltyTerms) -> Vectors:
    """The vectors that terms are differentiated by: those of the own rows, of all columns, the scale."""
    mine = own_terms(shard, terms)
    return mine.row_thresholds, mine.column_thresholds, mine.scale


def block_terms(
    shard: LocalShard, terms: PenaltyTerms, where: slice, vectors: Vectors
) -> PenaltyTerms:
    """The terms of the own rows and of a block's columns."""
    of_rows, of_columns, scale = vectors
    return replace(
        terms,
        row_thresholds=of_rows,
        column_thresholds=None if of_columns is None else of_columns[where],
        scale=scale,
        window=bounds_of(shard, terms.window, where),
    )


def only_rows(values: Tensor) -> Reduced:
    """Results without anything of the columns."""
    none, counts = values.new_zeros(0), values.new_zeros(0, dtype=torch.long)
    return Reduced(values, none, counts, counts, none, none)
