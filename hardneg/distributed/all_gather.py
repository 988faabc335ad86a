"""``AllGatherScores``: each rank reduces its own rows of the scores, against the candidates of all ranks."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from hardneg.distributed.autograd import copy_to_ranks, reduce_from_ranks
from hardneg.distributed.columns import total_logsumexp
from hardneg.distributed.gather_select import gather_select
from hardneg.distributed.given_scores import all_candidates, swapped_rows
from hardneg.distributed.local_shard import LocalShard, local_shard
from hardneg.distributed.ring_passes import Reduced
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

__all__ = ["AllGather", "AllGatherScores"]


@dataclass(frozen=True)
class AllGather:
    """The local queries against all candidates: n d sent once, then vectors only; every reduction exact.

    Attributes:
        backend: what computes the reductions on every rank.
    """

    backend: str | Backend = "auto"

    def scores(self, comparison: Comparison) -> AllGatherScores:
        """The scores of a comparison of sharded rows."""
        return AllGatherScores(comparison, self.backend)


class AllGatherScores(Scores):
    """Row results are whole on one rank and are shared; column results are combined."""

    def __init__(self, comparison: Comparison, backend: str | Backend) -> None:
        self.comparison, self.backend = comparison, backend
        self.known: LocalShard | None = None
        self.differentiable = torch.is_grad_enabled()

    @property
    def shard(self) -> LocalShard:
        """The rows of this rank, with the candidates of all ranks, gathered once a call.

        Differentiable where the call is: a search, which has no gradient, may be the first to ask for it.
        """
        if self.known is None:
            with torch.set_grad_enabled(self.differentiable):
                candidates = all_candidates(self.comparison)
                self.known = local_shard(self.comparison, candidates, self.backend)
                _ = self.known.scores  # bound now, in this mode
        return self.known

    def swapped(self) -> AllGatherScores:
        """See ``Scores``."""
        return AllGatherScores(swapped_rows(self.comparison), self.backend)

    def select(self, search: Search) -> Selected:
        """See ``Scores``."""
        return gather_select(self.shard, search)

    def select_per_pair(self, search: PairSearch) -> Tensor:
        """See ``Scores``."""
        shard, anchors = self.shard, search.anchors
        edges = torch.tensor([shard.start, shard.start + shard.count], device=anchors.device)
        first, last = torch.searchsorted(anchors, edges).tolist()
        own = replace(
            search,
            anchors=anchors[first:last] - shard.start,
            ceilings=search.ceilings[first:last],
            seed=shard.one_seed(search.seed),
        )
        return shard.gather_list(shard.scores.select_per_pair(own))

    def pairs(self, rows: Tensor, columns: Tensor) -> Tensor:
        """See ``Scores``. The rank that holds the query computes the score."""
        shard = self.shard
        flat_rows, flat_columns = rows.reshape(-1), columns.reshape(-1)
        own = (flat_rows >= shard.start) & (flat_rows < shard.start + shard.count)
        which = (own & (flat_columns >= 0)).nonzero()[:, 0]
        found = shard.scores.pairs(flat_rows[which] - shard.start, flat_columns[which])
        whole = found.new_zeros(flat_rows.shape).index_copy(0, which, found)
        result: Tensor = reduce_from_ranks(whole, shard.ranks).view(rows.shape)
        return result

    def own_scores(self, embeddings: Tensor) -> Tensor:
        """See ``Scores``."""
        return self.shard.own_scores(embeddings)

    def shared_seed(self, seed: Tensor | None) -> Tensor | None:
        """See ``Scores``."""
        return self.shard.one_seed(seed)

    def magnitudes(self, rows: Tensor, columns: Tensor) -> Tensor:
        """See ``Scores``. The rank that holds the query answers."""
        shard = self.shard
        own = (rows >= shard.start) & (rows < shard.start + shard.count)
        which = own.nonzero()[:, 0]
        with torch.no_grad():
            found = shard.scores.magnitudes(rows[which] - shard.start, columns[which])
            return shard.ranks.sum(found.new_zeros(rows.shape).index_copy(0, which, found))

    def penalty_sum(self, terms: PenaltyTerms) -> Sums:
        """See ``Scores``."""
        found = self.shard.scores.penalty_sum(own_terms(self.shard, terms))
        return all_sums(self.shard, terms, found)

    def penalty_total(
        self,
        terms: PenaltyTerms,
        row_weights: Tensor | None,
        column_weights: Tensor | None = None,
    ) -> Total:
        """See ``Scores``."""
        shard = self.shard
        weights = shard.rows_of(row_weights), column_weights
        total = shard.scores.penalty_total(own_terms(shard, terms), *weights)
        value = reduce_from_ranks(total.value, shard.ranks)
        return Total(value, *counts_and_maxima(shard, terms, total))

    def batch_all(self, terms: BatchAllTerms) -> BatchAll:
        """See ``Scores``."""
        shard = self.shard
        found = shard.scores.batch_all(terms)
        collect = shard.gather_list if terms.per_pair else shard.gather_rows
        total = reduce_from_ranks(found.sums, shard.ranks) if terms.total else None
        return BatchAll(
            collect(found.sums) if total is None else total,
            collect(found.counts),
            *(shard.gather_rows(x) for x in (found.maxima, found.positive_sums, found.pairs)),
        )

    def selected_penalty(self, terms: SelectedTerms) -> SelectedSums:
        """See ``Scores``."""
        shard = self.shard
        scale, seed = copy_to_ranks(terms.scale, shard.ranks), shard.one_seed(terms.seed)
        found = shard.scores.selected_penalty(replace(terms, scale=scale, seed=seed))
        collect = shard.gather_list if terms.per_pair else shard.gather_rows
        return SelectedSums(
            reduce_from_ranks(found.sums, shard.ranks) if terms.total else collect(found.sums),
            collect(found.counts),
            collect(found.considered),
            collect(found.positives),
            shard.gather_rows(found.pairs),
        )

    def logsumexp(self, terms: ExponentialTerms) -> LogSumExp:
        """See ``Scores``."""
        shard = self.shard
        scale, window = copy_to_ranks(terms.scale, shard.ranks), shard.window(terms.window)
        found = shard.scores.logsumexp(replace(terms, scale=scale, window=window))
        return all_logsumexp(shard, terms, found)

    def counts(self, among: Among) -> tuple[Tensor, Tensor]:
        """See ``Scores``."""
        of_rows, of_columns = self.shard.scores.counts(among)
        return self.shard.gather_rows(of_rows), self.shard.ranks.sum(of_columns)

    def positive_pairs(self) -> tuple[Tensor, Tensor]:
        """See ``Scores``."""
        return gather_pairs(self.shard, *self.shard.scores.positive_pairs())


def own_terms(shard: LocalShard, terms: PenaltyTerms) -> PenaltyTerms:
    """The terms of the own rows and of all columns, as they enter a rank's share of the work."""
    return replace(
        terms,
        row_thresholds=shard.rows_of(copy_to_ranks(terms.row_thresholds, shard.ranks)),
        column_thresholds=copy_to_ranks(terms.column_thresholds, shard.ranks),
        scale=copy_to_ranks(terms.scale, shard.ranks),
        window=shard.window(terms.window),
    )


def all_sums(shard: LocalShard, terms: PenaltyTerms, found: Sums | Reduced) -> Sums:
    """The sums over all ranks' rows, from those over the own ones."""
    return Sums(
        found.rows if terms.row_thresholds is None else shard.gather_rows(found.rows),
        found.columns
        if terms.column_thresholds is None
        else reduce_from_ranks(found.columns, shard.ranks),
        *counts_and_maxima(shard, terms, found),
    )


def counts_and_maxima(
    shard: LocalShard, terms: PenaltyTerms, found: Sums | Total | Reduced
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Of all rows: the counts and the largest arguments of both sides."""
    of_rows, of_columns = terms.row_thresholds is not None, terms.column_thresholds is not None
    return (
        shard.gather_rows(found.row_counts) if of_rows else found.row_counts,
        shard.ranks.sum(found.column_counts) if of_columns else found.column_counts,
        shard.gather_rows(found.row_maxima) if of_rows else found.row_maxima,
        shard.ranks.max(found.column_maxima) if of_columns else found.column_maxima,
    )


def all_logsumexp(
    shard: LocalShard, terms: ExponentialTerms, found: LogSumExp | Reduced
) -> LogSumExp:
    """The log-sum-exps over all ranks' rows, from those over the own ones."""
    return LogSumExp(
        shard.gather_rows(found.rows) if terms.rows else found.rows,
        total_logsumexp(found.columns, shard.ranks) if terms.columns else found.columns,
        shard.gather_rows(found.row_maxima) if terms.rows else found.row_maxima,
        shard.ranks.max(found.column_maxima) if terms.columns else found.column_maxima,
    )


def gather_pairs(shard: LocalShard, anchors: Tensor, positives: Tensor) -> tuple[Tensor, Tensor]:
    """The (anchor, positive) pairs of all ranks, from those of the own rows."""
    both = shard.gather_list(torch.stack([anchors + shard.start, positives], dim=1))
    return both[:, 0].contiguous(), both[:, 1].contiguous()
