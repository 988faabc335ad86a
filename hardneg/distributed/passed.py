"""The executor whose candidates travel: O(n d / W) memory for them, reductions in blocks of columns."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import NoReturn

import torch
from torch import Tensor

from hardneg.ceilings import Ceiling
from hardneg.distributed.boundary import entering, leaving
from hardneg.distributed.gathered import (
    all_logsumexp,
    all_sums,
    counts_and_maxima,
    listed_pairs,
    own_terms,
)
from hardneg.distributed.part import Part, part_of, sharded
from hardneg.distributed.ring import Reduced, Trip, Vectors, bounds_of, travelled
from hardneg.distributed.search import searched
from hardneg.distributed.selected import rescued
from hardneg.ops.description import Among, Comparison
from hardneg.ops.executor import BatchAll, Executor, LogSumExp, Selected, SelectedSums, Sums, Total
from hardneg.ops.requests import ExponentialTerms, PenaltyTerms, Search, SelectedTerms
from hardneg.ops.selected_terms import listed_penalty
from hardneg.ops.tiled import relation
from hardneg.penalties import Penalty
from hardneg.selection import Selection

__all__ = ["PassedCandidates"]


@dataclass(frozen=True)
class PassedCandidates:
    """Own queries against one shard of candidates after the other; exact.

    Attributes:
        backend: what carries the reductions out on every rank.
    """

    backend: str | Executor = "auto"

    def part(self, comparison: Comparison) -> Part:
        """This rank's part, its candidates still spread over the ranks."""
        return part_of(comparison, comparison.candidates, self.backend)

    def select(self, comparison: Comparison, search: Search) -> Selected:
        """See ``Executor``. All that is looked for is found on one way around."""
        part, selection, hardest = self.part(comparison), search.selection, search.hardest
        plain = replace(selection, skip=0, fallback="none")
        seed = part.one_seed(search.seed)
        wanted = [replace(search, selection=plain, seed=seed, hardest=False)]
        rescue = {"easiest": ["lowest"], "hardest": ["highest"], "none": []}[selection.fallback]
        for order in rescue + ["highest"] * hardest:
            one = Selection(order, 1)
            wanted.append(Search(one, search.among, rows=search.rows, columns=search.columns))
        found = searched(part, wanted)
        sides = []
        for side in range(2):
            chosen = found[0][side][:, selection.skip :]
            sides.append(rescued(chosen, found[1][side]) if rescue else chosen)
        top = found[-1] if hardest else [x[:0, :1] for x in found[0]]
        return Selected(*sides, *top)

    def select_per_pair(
        self,
        comparison: Comparison,
        anchors: Tensor,
        ceilings: Tensor,
        selection: Selection,
        seed: Tensor | None = None,
    ) -> Tensor:
        """Needs whole rows of scores."""
        return needs_whole_rows("ceiling for each (anchor, positive) pair, such as semi-hard's")

    def pair_scores(self, comparison: Comparison, rows: Tensor, columns: Tensor) -> Tensor:
        """See ``Executor``. The rank that holds the query computes the score when the candidate is there."""
        part = self.part(comparison)
        flat_rows, flat_columns = rows.reshape(-1), columns.reshape(-1)
        own = (flat_rows >= part.start) & (flat_rows < part.start + part.count)

        def reduce(block: Comparison, where: slice, vectors: Vectors) -> Reduced:
            here = own & (flat_columns >= where.start) & (flat_columns < where.stop)
            which = here.nonzero()[:, 0]
            found = part.executor.pair_scores(
                block, flat_rows[which] - part.start, flat_columns[which] - where.start
            )
            values = found.new_zeros(flat_rows.shape).index_copy(0, which, found)
            return only_rows(values)

        stays = held_together(part, flat_rows, flat_columns)
        values = travelled(Trip(part, reduce, stays=stays)).rows
        return leaving(values, part.ranks).view(rows.shape)

    @torch.no_grad()
    def magnitudes(self, comparison: Comparison, rows: Tensor, columns: Tensor) -> Tensor:
        """See ``Executor``. The rank that holds the query answers when the candidate is there."""
        part = self.part(comparison)

        def reduce(block: Comparison, where: slice, vectors: Vectors) -> Reduced:
            here = (rows >= part.start) & (rows < part.start + part.count)
            which = (here & (columns >= where.start) & (columns < where.stop)).nonzero()[:, 0]
            found = part.executor.magnitudes(
                block, rows[which] - part.start, columns[which] - where.start
            )
            return only_rows(found.new_zeros(rows.shape).index_copy(0, which, found))

        trip = Trip(part, reduce, stays=held_together(part, rows, columns))
        return part.ranks.sum(travelled(trip).rows)

    def penalty_sum(self, comparison: Comparison, terms: PenaltyTerms) -> Sums:
        """See ``Executor``."""
        part = self.part(comparison)

        def reduce(block: Comparison, where: slice, vectors: Vectors) -> Reduced:
            mine = block_terms(part, terms, where, vectors)
            return Reduced(*part.executor.penalty_sum(block, mine))

        return all_sums(part, terms, travelled(Trip(part, reduce), *entered(part, terms)))

    def penalty_total(
        self,
        comparison: Comparison,
        terms: PenaltyTerms,
        row_weights: Tensor | None,
        column_weights: Tensor | None = None,
    ) -> Total:
        """See ``Executor``. The gradients take a second way around, 8nmd in all."""
        part = self.part(comparison)

        def reduce(block: Comparison, where: slice, vectors: Vectors) -> Reduced:
            total = part.executor.penalty_total(
                block,
                block_terms(part, terms, where, vectors),
                part.of_rows(row_weights),
                None if column_weights is None else column_weights[where],
            )
            return Reduced(total.value, total.value.new_zeros(0), *total[1:])

        found = travelled(Trip(part, reduce), *entered(part, terms))
        return Total(leaving(found.rows, part.ranks), *counts_and_maxima(part, terms, found))

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
        """Needs whole rows of scores."""
        return needs_whole_rows("batch-all (all positives against all negatives)")

    def selected_penalty(
        self,
        comparison: Comparison,
        terms: SelectedTerms,
        *,
        total: bool = False,
        per_pair: bool = False,
    ) -> SelectedSums:
        """See ``Executor``. All pairs are listed; those under a ceiling need whole rows."""
        if terms.ceiling is not None:
            needs_whole_rows("ceiling for each (anchor, positive) pair, such as semi-hard's")
        found = listed_penalty(self, comparison, terms, per_pair)
        return found._replace(sums=found.sums.sum()) if total else found

    def logsumexp(self, comparison: Comparison, terms: ExponentialTerms) -> LogSumExp:
        """See ``Executor``."""
        part = self.part(comparison)

        def reduce(block: Comparison, where: slice, vectors: Vectors) -> Reduced:
            bounds = bounds_of(part, terms.window, where)
            found = part.executor.logsumexp(block, replace(terms, scale=vectors[0], window=bounds))
            none = found.rows.new_zeros(0, dtype=torch.long)
            return Reduced(*found[:2], none, none, *found[2:])

        trip = Trip(part, reduce, exponential=True)
        return all_logsumexp(part, terms, travelled(trip, entering(terms.scale, part.ranks)))

    def admitted_counts(self, comparison: Comparison, among: Among) -> tuple[Tensor, Tensor]:
        """See ``Executor``. No embeddings are needed."""
        part = self.part(comparison)
        mine, n = part.comparison.relation, max(1, part.count)
        m, device = comparison.candidates.shape[0], comparison.queries.device
        of_rows, of_columns = relation.admitted_counts(mine, among, n, m, device)
        return part.all_rows(of_rows), part.ranks.sum(of_columns)

    def positive_pairs(self, comparison: Comparison) -> tuple[Tensor, Tensor]:
        """See ``Executor``. No embeddings are needed."""
        part = self.part(comparison)
        mine, n = part.comparison.relation, max(1, part.count)
        m, device = comparison.candidates.shape[0], comparison.queries.device
        anchors, positives = relation.positive_pairs(mine, n, m, device)
        return listed_pairs(part, anchors, positives)


def held_together(part: Part, rows: Tensor, columns: Tensor) -> bool:
    """Whether one rank holds both sides of every pair, as of those in paired rows; every rank finds the same."""
    of_rows = part.rows.holders(rows.device)
    of_columns = sharded(part.comparison.candidates).rows.holders(columns.device)
    same = of_rows[rows.clamp(min=0)] == of_columns[columns.clamp(min=0)]
    return bool(((rows < 0) | (columns < 0) | same).all())


def needs_whole_rows(what: str) -> NoReturn:
    """What a rank that sees one shard at a time cannot do."""
    raise NotImplementedError(
        f"AcrossRanks(ring=True) has no {what}: it needs all candidates of an anchor at once; use "
        "AcrossRanks(loss) without ring, or negatives without a ceiling such as TopK(k)"
    )


def entered(part: Part, terms: PenaltyTerms) -> Vectors:
    """The vectors that terms are differentiated by: those of the own rows, of all columns, the scale."""
    mine = own_terms(part, terms)
    return mine.row_thresholds, mine.column_thresholds, mine.scale


def block_terms(part: Part, terms: PenaltyTerms, where: slice, vectors: Vectors) -> PenaltyTerms:
    """The terms of the own rows and of a block's columns."""
    of_rows, of_columns, scale = vectors
    return replace(
        terms,
        row_thresholds=of_rows,
        column_thresholds=None if of_columns is None else of_columns[where],
        scale=scale,
        window=bounds_of(part, terms.window, where),
    )


def only_rows(values: Tensor) -> Reduced:
    """Results without anything of the columns."""
    none, counts = values.new_zeros(0), values.new_zeros(0, dtype=torch.long)
    return Reduced(values, none, counts, counts, none, none)
