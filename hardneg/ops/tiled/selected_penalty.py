"""Tiled ``selected_penalty``: the pairs of a few queries are listed, searched for and scored at a time.

Every positive of a query is a term, so of few classes there are as many pairs as scores, and only those of a
block are ever listed. The gradients follow in the same pass where the weights are known.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from hardneg.ops.comparison import Comparison, of_rows
from hardneg.ops.requests import EVERYTHING, PairSearch, SelectedTerms, Wanted
from hardneg.ops.rounding import Ceilings
from hardneg.ops.scores import SelectedSums
from hardneg.ops.selected_terms import term_slopes, term_values, terms_by_query
from hardneg.ops.tiled.pair_gradients import pair_scores_backward
from hardneg.ops.tiled.pair_scores import is_dense, pair_scores
from hardneg.ops.tiled.relation import admitted_counts, positive_pairs
from hardneg.ops.tiled.score_matrix import score_matrix
from hardneg.ops.tiled.select import select
from hardneg.ops.tiled.select_per_pair import select_per_pair
from hardneg.ops.tiled.side_gradients import accumulators
from hardneg.similarities import Cosine, Dot, upcast

if TYPE_CHECKING:
    from jaxtyping import Float, Int

__all__ = ["SelectedGradients", "selected_penalty"]

ENTRIES = 1 << 17
"""How many negatives of pairs are held at a time; those of one query at the least."""

ROWS = 1 << 21
"""How many scores the queries of a block may have, as they are searched by full rows."""


@dataclass(eq=False, repr=False)
class SelectedGradients:
    """Gradients of the weighted terms; empty for a frozen side."""

    queries: Tensor
    candidates: Tensor
    scale: Tensor


@dataclass(eq=False, repr=False)
class Pairs:
    """The pairs of a block of queries, and the negatives of each of them.

    Attributes:
        queries, positives: the pairs, by query, its number within the block.
        scores: of the positives.
        anchors, chosen: which negatives were selected, by pair; or by query, then ``owners`` says whose.
        negatives: their scores.
    """

    queries: Int[Tensor, "t"]
    positives: Int[Tensor, "t"]
    scores: Float[Tensor, "t"]
    anchors: Int[Tensor, "a"]
    chosen: Int[Tensor, "a k"]
    negatives: Float[Tensor, "a k"]
    owners: Int[Tensor, "t"] | None

    def by_pair(self, x: Tensor) -> Tensor:
        """An entry for each pair from one for each anchor."""
        return x if self.owners is None else x.index_select(0, self.owners)

    def by_anchor(self, x: Tensor) -> Tensor:
        """The sum over the pairs of each anchor."""
        if self.owners is None:
            return x
        return x.new_zeros(len(self.anchors), *x.shape[1:]).index_add_(0, self.owners, x)


def blocks(relation_counts: Int[Tensor, "n"], m: int, width: int) -> Iterator[slice]:
    """Consecutive queries whose pairs have at most ``ENTRIES`` negatives in all, and ``ROWS`` scores."""
    ends = (relation_counts * width).cumsum(0).cpu()
    most, start, done = max(1, ROWS // m), 0, 0
    while start < len(ends):
        stop = int(torch.searchsorted(ends, done + ENTRIES, right=True))
        stop = min(max(stop, start + 1), start + most, len(ends))
        yield slice(start, stop)
        start, done = stop, int(ends[stop - 1])


def matrix_of(block: Comparison, pairs: int) -> Float[Tensor, "n m"] | None:
    """All scores of the block, where a product takes less time than gathering the rows of the pairs.

    Off a CPU never: a product may be rounded to fewer bits there.
    """
    inner = type(block.similarity) in (Cosine, Dot) and block.queries.device.type == "cpu"
    if not inner or not is_dense(len(block.queries), len(block.candidates), pairs):
        return None
    return score_matrix(block)[0]


def listed_scores(
    block: Comparison, matrix: Tensor | None, rows: Int[Tensor, "t"], columns: Int[Tensor, "t"]
) -> Float[Tensor, "t"]:
    """Scores of listed pairs of a block; 0 where an index is -1."""
    if matrix is None:
        return pair_scores(block.similarity, block.queries, block.candidates, rows, columns)
    place = rows * len(block.candidates) + columns
    found = matrix.view(-1).index_select(0, place.clamp(min=0))
    return torch.where((rows >= 0) & (columns >= 0), found, 0.0)


def pairs_of(
    block: Comparison,
    terms: SelectedTerms,
    ceilings: Ceilings | None,
    first: int,
    chosen: Tensor | None,
) -> Pairs:
    """List the pairs of a block of queries from ``first`` on, search for their negatives, and score both."""
    n, m = len(block.queries), len(block.candidates)
    queries, positives = positive_pairs(block.relation, n, m, block.queries.device)
    matrix = matrix_of(block, len(queries))
    scores = listed_scores(block, matrix, queries, positives)
    anchors, owners = queries, None
    if ceilings is not None:
        bounds = ceilings.over(queries + first, positives, scores)
        search = PairSearch(queries, bounds, terms.selection, terms.seed, terms.score_range)
        chosen = select_per_pair(block, search)
    else:
        anchors, owners = torch.arange(n, device=queries.device), queries
        if chosen is None:
            chosen = select(block, terms.search(scores.new_zeros(n))).rows
    listed = anchors[:, None].expand_as(chosen).reshape(-1), chosen.reshape(-1)
    negatives = listed_scores(block, matrix, *listed).view(chosen.shape)
    return Pairs(queries, positives, scores, anchors, chosen, negatives, owners)


def selected_penalty(
    comparison: Comparison,
    terms: SelectedTerms,
    chosen: Int[Tensor, "n k"] | None = None,
    weights: Tensor | None = None,
    wanted: Wanted = EVERYTHING,
) -> tuple[SelectedSums, SelectedGradients | None]:
    """See ``DenseScores.selected_penalty``. With ``weights`` (one a query, or a pair) also the gradients.

    ``chosen`` are the negatives of every query, where they were searched for already.
    """
    compared = replace(
        comparison, queries=upcast(comparison.queries), candidates=upcast(comparison.candidates)
    )
    n, m, device = len(compared.queries), len(compared.candidates), compared.queries.device
    counts, _ = admitted_counts(compared.relation, "positives", n, m, device)
    rivals, _ = admitted_counts(compared.relation, "negatives", n, m, device)
    total = Total(compared, counts, terms.per_pair, weights, wanted)
    ceilings = None if terms.ceiling is None else Ceilings(terms.ceiling, comparison)
    width = max(1, terms.selection.k)
    for rows in blocks(counts, m, width):
        if not bool(((counts[rows] > 0) & (rivals[rows] > 0)).any()):
            continue
        block = replace(
            compared, queries=compared.queries[rows], relation=of_rows(compared.relation, rows)
        )
        known = None if chosen is None else chosen[rows]
        total.take(block, rows, terms, pairs_of(block, terms, ceilings, rows.start, known))
    return total.sums, total.gradients()


class Total:
    """The results of all blocks, and the gradients so far."""

    def __init__(
        self,
        compared: Comparison,
        counts: Int[Tensor, "n"],
        per_pair: bool,
        weights: Tensor | None,
        wanted: Wanted,
    ) -> None:
        self.per_pair, self.weights, self.wanted = per_pair, weights, wanted
        self.starts = (counts.cumsum(0) - counts).tolist() if per_pair else None
        length = int(counts.sum()) if per_pair else len(counts)
        values = compared.queries.new_zeros(length)
        whole = torch.zeros_like(values, dtype=torch.long)
        pairs = torch.zeros_like(counts)
        self.sums = SelectedSums(values, whole, whole.clone(), values.clone(), pairs)
        self.dq, self.dc = None, None
        self.scale = values.new_zeros(())
        if weights is not None:
            self.dq, self.dc = accumulators(compared.queries, compared.candidates, wanted)

    def take(self, block: Comparison, rows: slice, terms: SelectedTerms, found: Pairs) -> None:
        """Take in a block."""
        there, negatives = found.by_pair(found.chosen >= 0), found.by_pair(found.negatives)
        values, counts = term_values(terms, found.scores, negatives, there)
        considered = there.sum(1)
        n = len(block.queries)
        pairs = considered.new_zeros(n).index_add_(0, found.queries, (considered > 0).long())
        mine = SelectedSums(values, counts, considered, found.scores, pairs)
        place = rows
        if self.starts is None:
            mine = terms_by_query(mine, found.queries, n)
        else:
            first = self.starts[rows.start]
            place = slice(first, first + len(values))
        for whole, part in zip(self.sums[:4], mine[:4], strict=True):
            whole[place] = part
        self.sums.pairs[rows] = pairs
        if self.weights is not None:
            upstream = self.weights[place] if self.per_pair else self.weights[rows][found.queries]
            slopes = term_slopes(terms, found.scores, negatives, there, upstream)
            self.add_gradient(block, rows, found, slopes)

    def add_gradient(
        self, block: Comparison, rows: slice, found: Pairs, slopes: tuple[Tensor, Tensor, Tensor]
    ) -> None:
        """Add the gradients of the block's scores to those of the embeddings, and to that of the scale."""
        self.scale += slopes[2]
        if not self.wanted.embeddings:
            return
        anchors = found.anchors[:, None].expand_as(found.chosen).reshape(-1)
        of_anchors = found.by_anchor(slopes[1]).reshape(-1)
        dq, dc = pair_scores_backward(
            block.similarity,
            block.queries,
            block.candidates,
            torch.cat([found.queries, anchors]),
            torch.cat([found.positives, found.chosen.reshape(-1)]),
            torch.cat([slopes[0], of_anchors]),
            self.wanted,
        )
        if self.dq is not None:
            self.dq[rows] = dq
        if self.dc is not None:
            self.dc += dc

    def gradients(self) -> SelectedGradients | None:
        """The gradients in the type of the scores; None without weights."""
        if self.weights is None:
            return None
        none = self.scale.new_empty(0)
        dq, dc = (none if x is None else x for x in (self.dq, self.dc))
        return SelectedGradients(dq, dc, self.scale)
