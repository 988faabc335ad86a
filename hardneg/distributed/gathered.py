"""The executor that gathers the candidates: each rank reduces its own rows of the scores."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from hardneg.ceilings import Ceiling
from hardneg.distributed.boundary import entering, leaving
from hardneg.distributed.columns import total_logsumexp
from hardneg.distributed.part import Part, part_of, sharded
from hardneg.distributed.ring import Reduced
from hardneg.distributed.selected import both_selected, rescued, rows_selected
from hardneg.ops.description import Among, Comparison
from hardneg.ops.executor import BatchAll, Executor, LogSumExp, Selected, SelectedSums, Sums, Total
from hardneg.ops.requests import ExponentialTerms, PenaltyTerms, Search, SelectedTerms
from hardneg.penalties import Penalty
from hardneg.selection import Selection

__all__ = ["GatheredCandidates"]


@dataclass(frozen=True)
class GatheredCandidates:
    """Own queries against all candidates: n d sent once, then vectors only; every reduction exact.

    Row results are whole on one rank and are shared; column results are combined.

    Attributes:
        backend: what carries the reductions out on every rank.
    """

    backend: str | Executor = "auto"

    def part(self, comparison: Comparison) -> Part:
        """This rank's part."""
        return part_of(comparison, sharded(comparison.candidates).everywhere(), self.backend)

    def select(self, comparison: Comparison, search: Search) -> Selected:
        """See ``Executor``. A column's fallback can be told only once all ranks have answered."""
        part, selection = self.part(comparison), search.selection
        search = replace(search, seed=part.one_seed(search.seed))
        if not search.columns:
            return rows_selected(part, search)
        plain = replace(selection, skip=0, fallback="none")
        wants_hardest = search.hardest or selection.fallback == "hardest"
        found = both_selected(part, replace(search, selection=plain, hardest=wants_hardest))
        of_rows, of_columns = found.rows[:, selection.skip :], found.columns[:, selection.skip :]
        if selection.fallback != "none":
            rescue: tuple[Tensor, Tensor] = found.hardest_rows, found.hardest_columns
            if selection.fallback == "easiest":
                lowest = Search(Selection("lowest", 1), search.among, rows=search.rows)
                rescue = both_selected(part, lowest)[:2]
            of_rows, of_columns = rescued(of_rows, rescue[0]), rescued(of_columns, rescue[1])
        kept = slice(None if search.hardest else 0)
        return Selected(of_rows, of_columns, found.hardest_rows[kept], found.hardest_columns[kept])

    def select_per_pair(
        self,
        comparison: Comparison,
        anchors: Tensor,
        ceilings: Tensor,
        selection: Selection,
        seed: Tensor | None = None,
    ) -> Tensor:
        """See ``Executor``."""
        part = self.part(comparison)
        edges = torch.tensor([part.start, part.start + part.count], device=anchors.device)
        first, last = torch.searchsorted(anchors, edges).tolist()
        own = anchors[first:last] - part.start
        found = part.executor.select_per_pair(
            part.comparison, own, ceilings[first:last], selection, part.one_seed(seed)
        )
        return part.listed(found)

    def pair_scores(self, comparison: Comparison, rows: Tensor, columns: Tensor) -> Tensor:
        """See ``Executor``. The rank that holds the query computes the score."""
        part = self.part(comparison)
        flat_rows, flat_columns = rows.reshape(-1), columns.reshape(-1)
        own = (flat_rows >= part.start) & (flat_rows < part.start + part.count)
        which = (own & (flat_columns >= 0)).nonzero()[:, 0]
        found = part.executor.pair_scores(
            part.comparison, flat_rows[which] - part.start, flat_columns[which]
        )
        whole = found.new_zeros(flat_rows.shape).index_copy(0, which, found)
        return leaving(whole, part.ranks).view(rows.shape)

    @torch.no_grad()
    def magnitudes(self, comparison: Comparison, rows: Tensor, columns: Tensor) -> Tensor:
        """See ``Executor``. The rank that holds the query answers."""
        part = self.part(comparison)
        own = (rows >= part.start) & (rows < part.start + part.count)
        which = own.nonzero()[:, 0]
        found = part.executor.magnitudes(part.comparison, rows[which] - part.start, columns[which])
        return part.ranks.sum(found.new_zeros(rows.shape).index_copy(0, which, found))

    def penalty_sum(self, comparison: Comparison, terms: PenaltyTerms) -> Sums:
        """See ``Executor``."""
        part = self.part(comparison)
        sums = part.executor.penalty_sum(part.comparison, own_terms(part, terms))
        return all_sums(part, terms, sums)

    def penalty_total(
        self,
        comparison: Comparison,
        terms: PenaltyTerms,
        row_weights: Tensor | None,
        column_weights: Tensor | None = None,
    ) -> Total:
        """See ``Executor``."""
        part = self.part(comparison)
        total = part.executor.penalty_total(
            part.comparison, own_terms(part, terms), part.of_rows(row_weights), column_weights
        )
        value = leaving(total.value, part.ranks)
        return Total(value, *counts_and_maxima(part, terms, total))

    def positives_penalty(
        self,
        comparison: Comparison,
        penalty: Penalty,
        margin: float,
        ceiling: Ceiling | None = None,
        *,
        total: bool = False,
        per_pair: bool = False,
    ) -> BatchAll:
        """See ``Executor``."""
        part = self.part(comparison)
        found = part.executor.positives_penalty(
            part.comparison, penalty, margin, ceiling, total=total, per_pair=per_pair
        )
        collect = part.listed if per_pair else part.all_rows
        return BatchAll(
            leaving(found.sums, part.ranks) if total else collect(found.sums),
            collect(found.counts),
            *(part.all_rows(x) for x in (found.maxima, found.positive_sums, found.pairs)),
        )

    def selected_penalty(
        self,
        comparison: Comparison,
        terms: SelectedTerms,
        *,
        total: bool = False,
        per_pair: bool = False,
    ) -> SelectedSums:
        """See ``Executor``."""
        part = self.part(comparison)
        scale, seed = entering(terms.scale, part.ranks), part.one_seed(terms.seed)
        mine = replace(terms, scale=scale, seed=seed)
        found = part.executor.selected_penalty(
            part.comparison, mine, total=total, per_pair=per_pair
        )
        collect = part.listed if per_pair else part.all_rows
        return SelectedSums(
            leaving(found.sums, part.ranks) if total else collect(found.sums),
            collect(found.counts),
            collect(found.considered),
            collect(found.positives),
            part.all_rows(found.pairs),
        )

    def logsumexp(self, comparison: Comparison, terms: ExponentialTerms) -> LogSumExp:
        """See ``Executor``."""
        part = self.part(comparison)
        scale, window = entering(terms.scale, part.ranks), part.window(terms.window)
        own = replace(terms, scale=scale, window=window)
        return all_logsumexp(part, terms, part.executor.logsumexp(part.comparison, own))

    def admitted_counts(self, comparison: Comparison, among: Among) -> tuple[Tensor, Tensor]:
        """See ``Executor``."""
        part = self.part(comparison)
        of_rows, of_columns = part.executor.admitted_counts(part.comparison, among)
        return part.all_rows(of_rows), part.ranks.sum(of_columns)

    def positive_pairs(self, comparison: Comparison) -> tuple[Tensor, Tensor]:
        """See ``Executor``."""
        part = self.part(comparison)
        anchors, positives = part.executor.positive_pairs(part.comparison)
        return listed_pairs(part, anchors, positives)


def own_terms(part: Part, terms: PenaltyTerms) -> PenaltyTerms:
    """The terms of the own rows and of all columns, as they enter a rank's share of the work."""
    return replace(
        terms,
        row_thresholds=part.of_rows(entering(terms.row_thresholds, part.ranks)),
        column_thresholds=entering(terms.column_thresholds, part.ranks),
        scale=entering(terms.scale, part.ranks),
        window=part.window(terms.window),
    )


def all_sums(part: Part, terms: PenaltyTerms, found: Sums | Reduced) -> Sums:
    """The sums over all ranks' rows, from those over the own ones."""
    return Sums(
        found.rows if terms.row_thresholds is None else part.all_rows(found.rows),
        found.columns if terms.column_thresholds is None else leaving(found.columns, part.ranks),
        *counts_and_maxima(part, terms, found),
    )


def counts_and_maxima(
    part: Part, terms: PenaltyTerms, found: Sums | Total | Reduced
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Of all rows: the counts and the largest arguments of both sides."""
    of_rows, of_columns = terms.row_thresholds is not None, terms.column_thresholds is not None
    return (
        part.all_rows(found.row_counts) if of_rows else found.row_counts,
        part.ranks.sum(found.column_counts) if of_columns else found.column_counts,
        part.all_rows(found.row_maxima) if of_rows else found.row_maxima,
        part.ranks.max(found.column_maxima) if of_columns else found.column_maxima,
    )


def all_logsumexp(part: Part, terms: ExponentialTerms, found: LogSumExp | Reduced) -> LogSumExp:
    """The log-sum-exps over all ranks' rows, from those over the own ones."""
    return LogSumExp(
        part.all_rows(found.rows) if terms.rows else found.rows,
        total_logsumexp(found.columns, part.ranks) if terms.columns else found.columns,
        part.all_rows(found.row_maxima) if terms.rows else found.row_maxima,
        part.ranks.max(found.column_maxima) if terms.columns else found.column_maxima,
    )


def listed_pairs(part: Part, anchors: Tensor, positives: Tensor) -> tuple[Tensor, Tensor]:
    """The (anchor, positive) pairs of all ranks, from those of the own rows."""
    both = part.listed(torch.stack([anchors + part.start, positives], dim=1))
    return both[:, 0].contiguous(), both[:, 1].contiguous()
