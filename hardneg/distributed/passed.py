"""The executor whose candidates travel: O(n d / W) memory for them, reductions in blocks of columns."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import NoReturn

import torch
from torch import Tensor

from hardneg.ceilings import Ceiling
from hardneg.distributed.boundary import entering, leaving
from hardneg.distributed.columns import total_logsumexp
from hardneg.distributed.gathered import counts_and_maxima, listed_pairs
from hardneg.distributed.part import Part, part_of, sharded
from hardneg.distributed.ring import Reduced, Trip, Vectors, bounds_of, travelled
from hardneg.distributed.search import Wanted, searched
from hardneg.distributed.selected import rescued
from hardneg.energies import Energy
from hardneg.ops.description import Among, Comparison, Window
from hardneg.ops.executor import BatchAll, Executor, LogSumExp, Selected, Sums, Total
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

    def select(
        self,
        comparison: Comparison,
        selection: Selection,
        among: Among = "negatives",
        window: Window | None = None,
        seed: Tensor | None = None,
        rows: bool = True,
        columns: bool = True,
        hardest: bool = False,
    ) -> Selected:
        """See ``Executor``. All that is looked for is found on one way around."""
        part = self.part(comparison)
        seed = None if seed is None else part.ranks.of_first(seed)
        wanted = [Wanted(replace(selection, skip=0, fallback="none"), window, seed)]
        rescue = {"easiest": ["lowest"], "hardest": ["highest"], "none": []}[selection.fallback]
        wanted += [Wanted(Selection(order, 1)) for order in rescue]
        wanted += [Wanted(Selection("highest", 1))] if hardest else []
        found = searched(part, wanted, among, rows, columns)
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

    def penalty_sum(
        self,
        comparison: Comparison,
        penalty: Penalty,
        row_thresholds: Tensor | None,
        column_thresholds: Tensor | None,
        *,
        among: Among = "negatives",
        sign: float = 1.0,
        scale: Tensor | None = None,
        window: Window | None = None,
    ) -> Sums:
        """See ``Executor``."""
        part = self.part(comparison)

        def reduce(block: Comparison, where: slice, vectors: Vectors) -> Reduced:
            of_rows, of_columns, factor = vectors
            sums = part.executor.penalty_sum(
                block,
                penalty,
                of_rows,
                None if of_columns is None else of_columns[where],
                among=among,
                sign=sign,
                scale=factor,
                window=bounds_of(part, window, where),
            )
            return Reduced(*sums)

        vectors = entered(part, row_thresholds, column_thresholds, scale)
        sums = travelled(Trip(part, reduce), *vectors)
        of_rows, of_columns = row_thresholds is not None, column_thresholds is not None
        return Sums(
            part.all_rows(sums.rows) if of_rows else sums.rows,
            leaving(sums.columns, part.ranks) if of_columns else sums.columns,
            *counts_and_maxima(part, sums, of_rows, of_columns),
        )

    def penalty_total(
        self,
        comparison: Comparison,
        penalty: Penalty,
        row_thresholds: Tensor | None,
        column_thresholds: Tensor | None,
        row_weights: Tensor | None,
        column_weights: Tensor | None,
        *,
        among: Among = "negatives",
        sign: float = 1.0,
        scale: Tensor | None = None,
    ) -> Total:
        """See ``Executor``. The gradients take a second way around, 8nmd in all."""
        part = self.part(comparison)

        def reduce(block: Comparison, where: slice, vectors: Vectors) -> Reduced:
            of_rows, of_columns, factor = vectors
            total = part.executor.penalty_total(
                block,
                penalty,
                of_rows,
                None if of_columns is None else of_columns[where],
                part.of_rows(row_weights),
                None if column_weights is None else column_weights[where],
                among=among,
                sign=sign,
                scale=factor,
            )
            return Reduced(total.value, total.value.new_zeros(0), *total[1:])

        vectors = entered(part, row_thresholds, column_thresholds, scale)
        found = travelled(Trip(part, reduce), *vectors)
        of_rows, of_columns = row_thresholds is not None, column_thresholds is not None
        value = leaving(found.rows, part.ranks)
        return Total(value, *counts_and_maxima(part, found, of_rows, of_columns))

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

    def logsumexp(
        self,
        comparison: Comparison,
        energy: Energy,
        *,
        among: Among = "negatives",
        scale: Tensor | None = None,
        window: Window | None = None,
        rows: bool = True,
        columns: bool = True,
    ) -> LogSumExp:
        """See ``Executor``."""
        part = self.part(comparison)

        def reduce(block: Comparison, where: slice, vectors: Vectors) -> Reduced:
            found = part.executor.logsumexp(
                block,
                energy,
                among=among,
                scale=vectors[0],
                window=bounds_of(part, window, where),
                rows=rows,
                columns=columns,
            )
            none = found.rows.new_zeros(0, dtype=torch.long)
            return Reduced(
                found.rows, found.columns, none, none, found.row_maxima, found.column_maxima
            )

        found = travelled(Trip(part, reduce, exponential=True), entering(scale, part.ranks))
        return LogSumExp(
            part.all_rows(found.rows) if rows else found.rows,
            total_logsumexp(found.columns, part.ranks) if columns else found.columns,
            part.all_rows(found.row_maxima) if rows else found.row_maxima,
            part.ranks.max(found.column_maxima) if columns else found.column_maxima,
        )

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


def entered(
    part: Part,
    row_thresholds: Tensor | None,
    column_thresholds: Tensor | None,
    scale: Tensor | None,
) -> tuple[Tensor | None, ...]:
    """The vectors that a penalty is differentiated by: those of the own rows, of all columns, the scale."""
    of_rows, of_columns, factor = (
        entering(x, part.ranks) for x in (row_thresholds, column_thresholds, scale)
    )
    return part.of_rows(of_rows), of_columns, factor


def only_rows(values: Tensor) -> Reduced:
    """Results without anything of the columns."""
    none, counts = values.new_zeros(0), values.new_zeros(0, dtype=torch.long)
    return Reduced(values, none, counts, counts, none, none)
