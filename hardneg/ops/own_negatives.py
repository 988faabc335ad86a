"""``WithOwnNegatives``: scores in which every query has negatives of its own behind the shared candidates."""

from __future__ import annotations

import copy
import math
from dataclasses import replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from hardneg.negatives import Selection
from hardneg.negatives.selection import ROW_SALT, pair_keys, with_fallback
from hardneg.ops.comparison import Among, Window, finite_or_nan
from hardneg.ops.own import OwnNegatives
from hardneg.ops.reference import weighted_total
from hardneg.ops.reference_pairs import selected_penalty
from hardneg.ops.reference_rows import first_k, masked_logsumexp, penalty_of_rows, within
from hardneg.ops.requests import (
    BatchAllTerms,
    ExponentialTerms,
    PairSearch,
    PenaltyTerms,
    Search,
    SelectedTerms,
)
from hardneg.ops.scores import (
    BatchAll,
    LogSumExp,
    Scores,
    Selected,
    SelectedSums,
    Sums,
    Total,
)

if TYPE_CHECKING:
    from jaxtyping import Bool, Float, Int

__all__ = ["WithOwnNegatives"]


class WithOwnNegatives(Scores):
    """Scores of n queries with m shared candidates, then k own negatives each: columns m to m + k - 1 of a row.

    Reductions over rows join those of the shared candidates with those of n x k scores; candidates as anchors
    know only the queries. Nothing of size n x (n k) exists.
    """

    def __init__(self, shared: Scores, own: OwnNegatives) -> None:
        self.comparison, self.shared, self.own = shared.comparison, shared, own
        self.scores = shared.own_scores(own.embeddings)
        everything = torch.ones_like(self.scores, dtype=torch.bool)
        self.admitted = everything if own.admitted is None else own.admitted

    @property
    def size(self) -> int:
        """How many pairs there are."""
        return self.shared.size + self.scores.numel()

    def own_alone(self) -> WithOwnNegatives:
        """The same scores without the shared candidates."""
        found = copy.copy(self)
        found.own = replace(self.own, alone=True)
        return found

    def finite(self) -> Float[Tensor, ""]:
        """See ``Scores``."""
        return self.shared.finite() * finite_or_nan(self.own.embeddings)

    def own_scores(self, embeddings: Tensor) -> Tensor:
        """See ``Scores``."""
        return self.shared.own_scores(embeddings)

    def swapped(self) -> Scores:
        """Candidates against queries, among which nothing is anybody's own."""
        return self.shared.swapped()

    def pairs(self, rows: Tensor, columns: Tensor) -> Tensor:
        """See ``Scores``."""
        m, k = self.shared.shape[1], self.scores.shape[1]
        own = columns >= m
        of_shared = self.shared.pairs(rows, torch.where(own, -1, columns))
        place = rows.clamp(min=0) * k + (columns - m).clamp(min=0)
        of_own = self.scores.reshape(-1)[torch.where(own, place, 0)]
        return torch.where(own & (rows >= 0), of_own, of_shared)

    def magnitudes(self, rows: Tensor, columns: Tensor) -> Tensor:
        """See ``Scores``; asked of positives, which stand among the shared candidates."""
        return self.shared.magnitudes(rows, columns)

    def within(self, window: Window) -> Bool[Tensor, "n k"]:
        """Which own negatives lie within the bounds of their query."""
        ceiling = None if self.own.exempt else window.row_ceiling
        return within(self.admitted, self.scores.detach(), window.row_floor, ceiling)

    def select(self, search: Search) -> Selected:
        """See ``Scores``."""
        if search.among == "positives" or not search.rows:
            return self.shared.select(search)
        search = replace(search, seed=self.shared.shared_seed(search.seed))
        selection = search.selection
        found = self.shared_choices(search)
        chosen = self.first(search, found)[:, selection.skip :]
        if selection.fallback != "none":
            order = "lowest" if selection.fallback == "easiest" else "highest"
            chosen = with_fallback(chosen, self.first(Search(Selection(order, 1))))
        hardest = chosen.new_empty(0, 1)
        if search.hardest:
            highest = None if found is None else found._replace(rows=found.hardest_rows)
            hardest = self.first(Search(Selection("highest", 1)), highest)
        if found is None and search.columns:
            found = self.shared.select(replace(search, rows=False))
        if found is None:
            return Selected(chosen, chosen[:0], hardest, chosen.new_empty(0, 1))
        return found._replace(rows=chosen, hardest_rows=hardest)

    def shared_choices(self, search: Search) -> Selected | None:
        """Both sides of the shared candidates in one pass, where the rows need nothing left out and no fallback."""
        plain = search.selection.skip == 0 and search.selection.fallback == "none"
        both = plain and search.columns and not self.own.alone
        return self.shared.select(search) if both else None

    def first(self, search: Search, found: Selected | None = None) -> Int[Tensor, "n k"]:
        """The first k of every query, without a fallback; ``found`` of the shared candidates, where it is known."""
        selection = replace(search.selection, skip=0, fallback="none")
        own = self.row_numbers()
        chosen = own.new_empty(len(own), 0) if found is None else found.rows
        if found is None and not self.own.alone:
            plain = replace(search, selection=selection, columns=False, hardest=False)
            chosen = self.shared.select(plain).rows
        return self.merged(own, chosen, self.within(search.window), selection, search.seed)

    def merged(
        self,
        anchors: Int[Tensor, "t"],
        chosen: Int[Tensor, "t c"],
        inside: Bool[Tensor, "t k"],
        selection: Selection,
        seed: Tensor | None,
    ) -> Int[Tensor, "t k"]:
        """The first k of what was chosen of the shared candidates and of the own negatives inside."""
        row, places = anchors[:, None], torch.arange(inside.shape[1], device=anchors.device)
        columns = torch.cat([chosen, (places + self.shared.shape[1]).expand_as(inside)], dim=1)
        with torch.no_grad():
            of_shared = self.shared.pairs(row.expand_as(chosen), chosen)
            scores = torch.cat([of_shared, self.scores.detach()[anchors]], dim=1)
            similarity = self.comparison.similarity
            keys = pair_keys(scores, selection, similarity, seed, row, columns, ROW_SALT)
        taken = torch.cat([chosen >= 0, inside], dim=1)
        found = first_k(keys, taken, selection.k)
        return torch.where(found >= 0, columns.gather(1, found.clamp(min=0)), -1)

    def select_per_pair(self, search: PairSearch) -> Tensor:
        """See ``Scores``."""
        selection, anchors = search.selection, search.anchors
        seed = self.shared.shared_seed(search.seed)
        plain = replace(search, selection=replace(selection, skip=0, fallback="none"), seed=seed)
        chosen = anchors.new_empty(len(anchors), 0)
        if not self.own.alone:
            chosen = self.shared.select_per_pair(plain)
        floor, ceiling = search.bounds
        own = self.scores.detach()[anchors]
        below = None if self.own.exempt else ceiling
        inside = within(self.admitted[anchors], own, floor, below)
        found = self.merged(anchors, chosen, inside, plain.selection, seed)[:, selection.skip :]
        if selection.fallback == "none":
            return found
        order = "lowest" if selection.fallback == "easiest" else "highest"
        return with_fallback(found, self.first(Search(Selection(order, 1)))[anchors])

    def penalty_sum(self, terms: PenaltyTerms) -> Sums:
        """See ``Scores``."""
        if terms.among == "positives" or terms.row_thresholds is None:
            return self.shared.penalty_sum(terms)
        own = self.own_terms(terms)
        if self.own.alone:
            none = own[0].new_zeros(0)
            return Sums(own[0], none, own[1], none.long(), own[2], none)
        found = self.shared.penalty_sum(terms)
        return found._replace(
            rows=found.rows + own[0],
            row_counts=found.row_counts + own[1],
            row_maxima=torch.maximum(found.row_maxima, own[2]),
        )

    def own_terms(self, terms: PenaltyTerms) -> tuple[Tensor, Tensor, Tensor]:
        """Sums, counts and largest arguments of the own negatives."""
        inside = self.within(terms.window)
        return penalty_of_rows(terms, self.scores, inside, terms.row_thresholds, (None, None))

    def penalty_total(
        self,
        terms: PenaltyTerms,
        row_weights: Tensor | None,
        column_weights: Tensor | None = None,
    ) -> Total:
        """See ``Scores``."""
        if terms.among == "positives" or row_weights is None:
            return self.shared.penalty_total(terms, row_weights, column_weights)
        if self.own.alone:
            return weighted_total(self.penalty_sum(terms), row_weights, None)
        found = self.shared.penalty_total(terms, row_weights, column_weights)
        sums, counts, maxima = self.own_terms(terms)
        return found._replace(
            value=found.value + (sums * row_weights).sum(),
            row_counts=found.row_counts + counts,
            row_maxima=torch.maximum(found.row_maxima, maxima),
        )

    def logsumexp(self, terms: ExponentialTerms) -> LogSumExp:
        """See ``Scores``."""
        if terms.among == "positives" or not terms.rows:
            return self.shared.logsumexp(terms)
        z = terms.energy(self.scores)
        z = z if terms.scale is None else z * terms.scale
        inside = self.within(terms.window)
        own = masked_logsumexp(z, inside)
        maxima = torch.where(inside, z.detach(), -math.inf).amax(1)
        if self.own.alone:
            none = own.new_zeros(0)
            return LogSumExp(own, none, maxima, none)
        found = self.shared.logsumexp(terms)
        both = torch.stack([found.rows, own], dim=1)
        return found._replace(
            rows=masked_logsumexp(both, both.detach() > -math.inf),
            row_maxima=torch.maximum(found.row_maxima, maxima),
        )

    def counts(self, among: Among) -> tuple[Tensor, Tensor]:
        """See ``Scores``."""
        rows, columns = self.shared.counts(among)
        if among == "positives":
            return rows, columns
        own = self.admitted.sum(1)
        return (own, torch.zeros_like(columns)) if self.own.alone else (rows + own, columns)

    def positive_pairs(self) -> tuple[Tensor, Tensor]:
        """See ``Scores``."""
        return self.shared.positive_pairs()

    def selected_penalty(self, terms: SelectedTerms) -> SelectedSums:
        """See ``Scores``; the pairs are listed."""
        return selected_penalty(self, terms)

    def batch_all(self, terms: BatchAllTerms) -> BatchAll:
        """Of labelled rows, which have no negatives of their own."""
        raise NotImplementedError("own negatives are for losses on pairs, which have no batch-all")
