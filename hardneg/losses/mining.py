"""The scores that a strategy picks for each anchor: selection, windows, randomness, scores of the picked pairs."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from hardneg.negatives import DistanceWeighted, Negatives
from hardneg.ops.description import Comparison, Window
from hardneg.ops.executor import Executor
from hardneg.selection import Selection
from hardneg.similarities import Cosine, Euclidean, SquaredEuclidean

__all__ = ["Mined", "Picked", "check_strategy", "mine", "mine_per_pair", "seed_for"]


@dataclass(frozen=True, eq=False)
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


@dataclass(frozen=True, eq=False)
class Mined:
    """Positive scores and the negatives picked for queries, and for the candidates paired with them."""

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
    n, m = comparison.queries.shape[0], comparison.candidates.shape[0]
    own = torch.arange(n, device=positive.device)
    window = Window()
    if strategy.ceiling is not None:
        with torch.no_grad():
            bound = strategy.ceiling(executor.pair_scores(comparison, own, positive))
        further = bound.new_full((m - n,), float("inf")) if candidates else bound[:0]
        of_columns = torch.cat([bound, further]) if candidates else None
        window = Window(row_ceiling=bound if queries else None, column_ceiling=of_columns)
    seed = seed_for(selection, comparison)
    told = (comparison, selection, "negatives", window, seed)
    found = executor.select(*told, rows=queries, columns=candidates, hardest=statistics)
    pairs = [(own, positive)]
    if queries:
        pairs.append(spread(own, found.rows))
    if candidates:
        pairs.append(spread(own, found.columns[:n])[::-1])
    scores = listed_scores(executor, comparison, pairs)
    picked: dict[bool, Picked] = {}
    for on, of_rows, index, top in (
        (queries, True, found.rows, found.hardest_rows),
        (candidates, False, found.columns[:n], found.hardest_columns[:n]),
    ):
        if on:
            mined = scores[1 if of_rows else -1].view(index.shape)
            hardest = mined.detach().amax(1)
            if statistics:
                best = spread(own, top) if of_rows else spread(own, top)[::-1]
                with torch.no_grad():
                    hardest = executor.pair_scores(comparison, *best)
            picked[of_rows] = Picked(mined, index >= 0, hardest)
    return Mined(scores[0], picked.get(True), picked.get(False))


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


def mine_per_pair(
    executor: Executor,
    comparison: Comparison,
    anchors: Int[Tensor, "t"],
    positive_scores: Float[Tensor, "t"],
    strategy: Negatives,
    selection: Selection,
    statistics: bool,
) -> Picked:
    """Many positives an anchor: negatives for every listed (anchor, positive) pair; queries only."""
    seed = seed_for(selection, comparison)
    plain = strategy.ceiling is None
    own = torch.arange(comparison.queries.shape[0], device=anchors.device)
    if plain or statistics:
        wanted = selection if plain else Selection("highest", 1)
        options = {"seed": seed, "columns": False, "hardest": statistics}
        found = executor.select(comparison, wanted, **options)
    if plain:
        scores = executor.pair_scores(comparison, *spread(own, found.rows)).view(found.rows.shape)
        scores, index = scores.index_select(0, anchors), found.rows.index_select(0, anchors)
    else:
        assert strategy.ceiling is not None
        bound = strategy.ceiling(positive_scores.detach())
        index = executor.select_per_pair(comparison, anchors, bound, selection, seed)
        scores = executor.pair_scores(comparison, *spread(anchors, index)).view(index.shape)
    hardest = scores.detach().amax(1)
    if statistics:
        with torch.no_grad():
            top = executor.pair_scores(comparison, own, found.hardest_rows[:, 0])
        hardest = top.index_select(0, anchors)
    return Picked(scores, index >= 0, hardest)
