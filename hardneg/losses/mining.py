"""The scores that a strategy picks for each anchor: selection, windows, randomness, scores of the picked pairs."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from hardneg.ceilings import Ceiling
from hardneg.negatives import DistanceWeighted, Negatives
from hardneg.ops.description import OPEN, Comparison, Window
from hardneg.ops.executor import Executor, Selected
from hardneg.ops.requests import Search
from hardneg.ops.rounding import Rounding, bounds_under, rounding_of
from hardneg.selection import Selection
from hardneg.similarities import Cosine, Euclidean, SquaredEuclidean

if TYPE_CHECKING:
    from jaxtyping import Bool, Float, Int

__all__ = [
    "Mined",
    "Picked",
    "bound_of",
    "check_strategy",
    "mine",
    "padded",
    "pair_rounding",
    "seed_for",
    "spread",
    "under_ceilings",
]


@dataclass(frozen=True, eq=False, repr=False)
class Picked:
    """The negatives of one direction's anchors.

    Attributes:
        scores: theirs, differentiable; 0 where there is none.
        there: which places hold a negative.
        hardest: highest score among all negatives of the anchor, for statistics; the highest of the
            picked ones unless asked for.
    """

    scores: Float[Tensor, "t k"]
    there: Bool[Tensor, "t k"]
    hardest: Float[Tensor, "t"]


@dataclass(frozen=True, eq=False, repr=False)
class Mined:
    """Positive scores and the negatives picked for queries, and for the candidates paired with them."""

    has: Bool[Tensor, "n"]
    positives: Float[Tensor, "n"]
    queries: Picked | None
    candidates: Picked | None


def check_strategy(strategy: Negatives, comparison: Comparison) -> None:
    """Distance weighting needs distances on the sphere."""
    known = isinstance(comparison.similarity, Cosine | Euclidean | SquaredEuclidean)
    if isinstance(strategy, DistanceWeighted) and not known:
        raise ValueError(
            f"negatives DistanceWeighted with similarity {comparison.similarity!r}: it needs distances "
            "between unit vectors; use cosine, or euclidean on normalised embeddings"
        )


def seed_for(selection: Selection, comparison: Comparison) -> Int[Tensor, ""] | None:
    """A seed from torch's generator for this call, where the selection is random."""
    if selection.order in ("highest", "lowest"):
        return None
    return torch.randint(2**31 - 1, (), device=comparison.queries.device)


def mine(
    executor: Executor,
    comparison: Comparison,
    positive: Int[Tensor, "n"],
    strategy: Negatives,
    selection: Selection,
    *,
    queries: bool,
    candidates: bool,
    statistics: bool,
) -> Mined:
    """One positive an anchor: query i with candidate ``positive[i]``, -1 for none.

    The candidate direction is that of candidates 0 ... n - 1, paired with the queries in order.
    """
    n = comparison.queries.shape[0]
    own = torch.arange(n, device=positive.device)
    window = OPEN
    if strategy.ceiling is not None:
        with torch.no_grad():
            p = executor.pair_scores(comparison, own, positive)
        bound = bound_of(executor, comparison, strategy.ceiling, own, positive, p)
        window = under_ceilings(bound, comparison, queries, candidates)
    search = Search(
        selection,
        window=window,
        seed=seed_for(selection, comparison),
        rows=queries,
        columns=candidates,
        hardest=statistics,
    )
    found = executor.select(comparison, search)
    of_rows, of_columns = found.rows, found.columns[:n]
    pairs = [(own, positive)]
    if queries:
        pairs.append(spread(own, of_rows))
    if candidates:
        anchors, index = spread(own, of_columns)
        pairs.append((index, anchors))
    scores = listed_scores(executor, comparison, pairs)
    mined = Mined(
        positive >= 0,
        scores[0],
        picked(scores[1], of_rows) if queries else None,
        picked(scores[-1], of_columns) if candidates else None,
    )
    return with_hardest(executor, comparison, mined, found, own) if statistics else mined


@torch.no_grad()
def pair_rounding(
    executor: Executor,
    comparison: Comparison,
    anchors: Int[Tensor, "t"],
    others: Int[Tensor, "t"],
    scores: Float[Tensor, "t"],
) -> Rounding:
    """How far the scores of listed pairs may be rounded."""
    return rounding_of(comparison, scores, lambda: executor.magnitudes(comparison, anchors, others))


@torch.no_grad()
def bound_of(
    executor: Executor,
    comparison: Comparison,
    ceiling: Ceiling,
    anchors: Int[Tensor, "t"],
    positives: Int[Tensor, "t"],
    scores: Float[Tensor, "t"],
) -> Float[Tensor, "t"]:
    """The bound that a ceiling sets over each listed (anchor, positive) pair with this score."""
    rounding = pair_rounding(executor, comparison, anchors, positives, scores)
    return bounds_under(ceiling, scores.detach(), rounding)


def under_ceilings(
    bound: Float[Tensor, "n"], comparison: Comparison, queries: bool, candidates: bool
) -> Window:
    """Each query, and the candidate paired with it, under one ceiling; the further candidates under none."""
    of_columns = padded(bound, comparison, math.inf) if candidates else None
    return Window(row_ceiling=bound if queries else None, column_ceiling=of_columns)


def padded(
    of_paired: Float[Tensor, "n"], comparison: Comparison, fill: float
) -> Float[Tensor, "m"]:
    """A number for each candidate: those of the paired ones, then ``fill`` for the further ones."""
    further = comparison.candidates.shape[0] - of_paired.shape[0]
    return torch.cat([of_paired, of_paired.new_full((further,), fill)])


def picked(scores: Float[Tensor, "..."], index: Int[Tensor, "n k"]) -> Picked:
    """The picked negatives from their scores, listed flat."""
    scores = scores.view(index.shape)
    return Picked(scores, index >= 0, scores.detach().amax(1))


@torch.no_grad()
def with_hardest(
    executor: Executor, comparison: Comparison, mined: Mined, found: Selected, own: Tensor
) -> Mined:
    """The same beside the hardest of all negatives, not of the picked ones."""
    queries, candidates = mined.queries, mined.candidates
    if queries is not None:
        top = executor.pair_scores(comparison, own, found.hardest_rows[:, 0])
        queries = replace(queries, hardest=top)
    if candidates is not None:
        top = executor.pair_scores(comparison, found.hardest_columns[: len(own), 0], own)
        candidates = replace(candidates, hardest=top)
    return replace(mined, queries=queries, candidates=candidates)


def own_positive(comparison: Comparison) -> Int[Tensor, "n"]:
    """Candidate i for query i; -1 where that pair itself is ignored."""
    own = torch.arange(comparison.queries.shape[0], device=comparison.queries.device)
    ignore = comparison.relation.ignore
    return own if ignore is None else torch.where(ignore.diagonal()[: len(own)], -1, own)


def spread(
    anchors: Int[Tensor, "n"], index: Int[Tensor, "n k"]
) -> tuple[Int[Tensor, "nk"], Int[Tensor, "nk"]]:
    """Every anchor beside each of its picks, flat."""
    return anchors[:, None].expand_as(index).reshape(-1), index.reshape(-1)


def listed_scores(
    executor: Executor, comparison: Comparison, lists: list[tuple[Tensor, Tensor]]
) -> list[Float[Tensor, "..."]]:
    """Scores of several lists of pairs by one gather."""
    rows = torch.cat([r for r, _ in lists])
    columns = torch.cat([c for _, c in lists])
    scores = executor.pair_scores(comparison, rows, columns)
    return list(scores.split([r.shape[0] for r, _ in lists]))
