"""Batch-all: every positive of an anchor is a threshold for all its negatives, in O(log P) a score, never n^3.

A block of full rows is scored once. Few thresholds are taken one after the other. Many are sorted for a
hinge, plain or squared (``sorted_thresholds``). log(1 + exp(score - threshold)) does not come apart into a
term of each, but its sum over the scores is so smooth that a few thresholds give all (``interpolation``).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from hardneg.negatives import Ceiling
from hardneg.ops.comparison import Comparison, admitted_mask
from hardneg.ops.grid import Tile, chunks
from hardneg.ops.precision import has_float64
from hardneg.ops.requests import EVERYTHING, Wanted
from hardneg.ops.rounding import Ceilings
from hardneg.ops.tiled.admission import Admission, excluded_value
from hardneg.ops.tiled.each_threshold import one_by_one
from hardneg.ops.tiled.interpolation import by_interpolation
from hardneg.ops.tiled.penalty_sum import largest
from hardneg.ops.tiled.scores import tile_scores
from hardneg.ops.tiled.sorted_thresholds import by_search
from hardneg.penalties import Hinge, Logistic, Penalty, SquaredHinge

if TYPE_CHECKING:
    from jaxtyping import Bool, Float, Int

__all__ = ["PairTerms", "batch_all"]

BLOCK_ELEMENTS = 1 << 19
FEWEST_TO_SORT = 9


@dataclass(eq=False, repr=False)
class PairTerms:
    """For the (anchor, positive) pairs in order: sums over negatives and counts of terms above 0, by anchor or pair.

    And of each anchor: its highest negative, the sum of its positives' scores, and how many of its
    positives admit a negative.
    """

    sums: Tensor
    counts: Tensor
    maxima: Tensor
    positive_sums: Tensor
    pairs: Tensor

    def all(self) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
        """Everything, in the operators' order."""
        return self.sums, self.counts, self.maxima, self.positive_sums, self.pairs


@dataclass(eq=False, repr=False)
class Positives:
    """The positives of the anchors of a block, one row an anchor, padded on the right."""

    rows: Int[Tensor, "t"]
    slots: Int[Tensor, "t"]
    columns: Int[Tensor, "t"]
    found: Float[Tensor, "t"]
    thresholds: Float[Tensor, "r p"]
    ceilings: Float[Tensor, "r p"] | None

    def padded(self, values: Float[Tensor, "t"]) -> Float[Tensor, "r p"]:
        """A value for each pair, 0 in the padding."""
        grid = torch.zeros_like(self.thresholds)
        grid[self.rows, self.slots] = values.to(grid.dtype)
        return grid


def find_positives(
    scores: Float[Tensor, "r m"],
    comparison: Comparison,
    tile: Tile,
    margin: float,
    bounds: Ceilings | None,
) -> Positives:
    """Thresholds ``positive - margin`` (and ceilings) of every anchor; the padding is never exceeded."""
    taken = admitted_mask(comparison.relation, "positives", tile.rows, tile.columns, scores.device)
    rows, columns = taken.nonzero(as_tuple=True)
    counts = torch.bincount(rows, minlength=len(scores))
    slots = torch.arange(len(rows), device=rows.device) - (counts.cumsum(0) - counts)[rows]
    found = scores[rows, columns]
    never = excluded_value(scores.dtype)
    thresholds = scores.new_full((len(scores), max(1, int(counts.max()))), never)
    ceilings = None
    if bounds is not None:
        ceilings = torch.full_like(thresholds, never)
        ceilings[rows, slots] = bounds.over(rows + tile.rows.start, columns, found)
    thresholds[rows, slots] = found - margin
    return Positives(rows, slots, columns, found, thresholds, ceilings)


def batch_all(
    comparison: Comparison,
    penalty: Penalty,
    margin: float,
    bounds: tuple[Ceiling | None, tuple[float, ...]],
    per_pair: bool,
    weights: Tensor | None = None,
    tile: tuple[int, int] | None = None,
    wanted: Wanted = EVERYTHING,
) -> tuple[PairTerms, tuple[Tensor, Tensor] | None]:
    """See ``reference.batch_all``. With ``weights`` (one an anchor, or a pair) also the gradients.

    ``bounds`` are the negatives' ceiling and the range of their scores.
    Reads the number of positives from the device: the one reduction that synchronises.
    """
    n, m = len(comparison.queries), len(comparison.candidates)
    rows_at_once = tile[0] if tile else max(32, BLOCK_ELEMENTS // m)
    tiles = tile_scores(comparison, (rows_at_once, m), wanted)
    admission = Admission(comparison.relation, "negatives", tiles.buffers)
    joined = Joined(n, per_pair, tiles.buffers.dtype, tiles.buffers.device)
    ceiling, score_range = bounds
    ceilings, done = None if ceiling is None else Ceilings(ceiling, comparison), 0
    for rows in chunks(n, tiles.tile[0]):
        block = Tile(rows, slice(0, m))
        scores = tiles.scores(block)
        positives = find_positives(scores, comparison, block, margin, ceilings)
        out = beyond(scores, score_range)
        negatives = admission.fill(scores, block, -excluded_value(scores.dtype))
        if out is not None:
            negatives = negatives.masked_fill_(out, -excluded_value(scores.dtype))
        first, done = done, done + len(positives.rows)
        mine = None
        if weights is not None:
            of_pairs = weights[first:done] if per_pair else weights[rows][positives.rows]
            mine = positives.padded(of_pairs)
        terms, total = block_terms(penalty, negatives, positives, mine, per_pair)
        joined.take(terms, rows)
        if total is not None:
            tiles.add_gradient(block, total)
    return joined.result(), None if weights is None else tiles.gradients()


def beyond(
    scores: Float[Tensor, "r m"], score_range: tuple[float, ...]
) -> Bool[Tensor, "r m"] | None:
    """Which scores are not between the two numbers; None where there are none."""
    if not score_range:
        return None
    return (scores <= score_range[0]) | (scores >= score_range[1])


class Joined:
    """The terms of all blocks, written into place: small results kept among the scratch would scatter the heap."""

    def __init__(self, n: int, per_pair: bool, dtype: torch.dtype, device: torch.device) -> None:
        like = torch.zeros(n, dtype=dtype, device=device)
        self.terms = PairTerms(
            like, like.long(), like.clone(), like.clone(), torch.zeros_like(like, dtype=torch.long)
        )
        self.listed: list[tuple[Tensor, Tensor]] | None = [] if per_pair else None

    def take(self, block: PairTerms, rows: slice) -> None:
        """Take in a block."""
        self.terms.maxima[rows] = block.maxima
        self.terms.positive_sums[rows] = block.positive_sums
        self.terms.pairs[rows] = block.pairs
        if self.listed is not None:
            self.listed.append((block.sums, block.counts))
        else:
            self.terms.sums[rows] = block.sums
            self.terms.counts[rows] = block.counts

    def result(self) -> PairTerms:
        """The terms of everything."""
        if self.listed is not None:
            self.terms.sums = torch.cat([sums for sums, _ in self.listed])
            self.terms.counts = torch.cat([counts for _, counts in self.listed])
        return self.terms


def pair_terms(
    penalty: Penalty, negatives: Float[Tensor, "r m"], positives: Positives, weights: Tensor | None
) -> tuple[Tensor, Tensor, Tensor | None, Tensor | None]:
    """Pair sums, pair counts, and with weights the weight of every negative and the slope sum of every pair."""
    thresholds, ceilings = positives.thresholds, positives.ceilings
    pairs = positives.rows, positives.slots
    if thresholds.shape[1] >= FEWEST_TO_SORT:
        # differences of sums over all scores need float64
        if type(penalty) in (Hinge, SquaredHinge) and has_float64(negatives.device):
            squared = type(penalty) is SquaredHinge
            return by_search(negatives, thresholds, ceilings, weights, pairs, squared)
        if type(penalty) is Logistic and ceilings is None:
            found = by_interpolation(penalty, negatives, thresholds, weights, pairs)
            if found is not None:
                return found
    return one_by_one(penalty, negatives, thresholds, ceilings, weights)


def block_terms(
    penalty: Penalty,
    negatives: Float[Tensor, "r m"],
    positives: Positives,
    weights: Float[Tensor, "r p"] | None,
    per_pair: bool,
) -> tuple[PairTerms, Float[Tensor, "r m"] | None]:
    """The terms of a block, and with weights the gradient of their total by its scores."""
    highest = largest(negatives.amax(dim=1))
    if bool((highest > -math.inf).any()):
        sums, counts, total, slopes = pair_terms(penalty, negatives, positives, weights)
    else:  # nothing is above any threshold
        sums, counts = (
            torch.zeros_like(positives.thresholds),
            torch.zeros_like(positives.thresholds),
        )
        total = slopes = None
    if total is not None and slopes is not None and weights is not None:
        pulled = -(slopes * weights)[positives.rows, positives.slots]
        total[positives.rows, positives.columns] = pulled
    at = (positives.rows, positives.slots)
    terms = PairTerms(
        sums[at] if per_pair else sums.sum(1),
        (counts[at] if per_pair else counts.sum(1)).long(),
        highest,
        positives.padded(positives.found).sum(1),
        pairs_with_negative(negatives, positives),
    )
    return terms, total


def pairs_with_negative(negatives: Float[Tensor, "r m"], positives: Positives) -> Int[Tensor, "r"]:
    """How many positives of each anchor have a negative below their ceiling: is the lowest one below?"""
    lowest = torch.where(negatives > -excluded_value(negatives.dtype) / 2, negatives, math.inf)
    lowest = lowest.amin(dim=1)[positives.rows]
    if positives.ceilings is None:
        reached = lowest < math.inf
    else:
        reached = lowest < positives.ceilings[positives.rows, positives.slots]
    return positives.padded(reached).sum(1).long()
