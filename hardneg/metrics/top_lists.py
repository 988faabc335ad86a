"""The first k candidates of every query, in the order that the metrics rank."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from hardneg.checks import check_count
from hardneg.metrics.ranking import Ranking, make_ranking
from hardneg.metrics.relevance import check_distinct, check_sets
from hardneg.metrics.standings import score_panels
from hardneg.metrics.work_share import all_values
from hardneg.similarities import Similarity, resolve_similarity

if TYPE_CHECKING:
    from jaxtyping import Float, Int

__all__ = ["Retrieved", "top_candidates"]


@dataclass(frozen=True, eq=False, repr=False)
class Retrieved:
    """The first candidates of every query.

    Attributes:
        indices: rows of the candidates, the highest score first; among equal scores the smallest row.
        scores: their scores in float64, of a callable in the type it returns.
    """

    indices: Int[Tensor, "n k"]
    scores: Float[Tensor, "n k"]

    def __repr__(self) -> str:
        n, k = self.indices.shape
        return f"Retrieved({k} candidates of {n} queries)"


@torch.no_grad()
def top_candidates(
    queries: Float[Tensor, "n d"],
    candidates: Float[Tensor, "m d"],
    k: int,
    *,
    similarity: Similarity | str = "cosine",
    same_set: bool = False,
) -> Retrieved:
    """The first k candidates of every query, by the scores by which ``ranks`` decides.

    A run of them (``write_trec_run``) has the values of this package's metrics wherever no scores tie: metrics put
    relevant candidates behind those that they tie with, a list that knows of no relevance cannot.

    Args:
        queries, candidates, similarity, same_set: as in ``ranks``.
        k: how many; more than there are gives as many as there are.

    Raises:
        ValueError, TypeError: as ``ranks``; also if k < 1.

    Example:
        >>> top_candidates(torch.eye(3), torch.eye(3)[[2, 0, 1]], 1).indices.T
        tensor([[1, 2, 0]])
    """
    check_sets(queries, candidates, same_set)
    check_distinct(queries, candidates, same_set)
    k = min(check_count("k", k), len(candidates) - int(same_set))
    order = make_ranking(queries, candidates, resolve_similarity(similarity)).without_bounds()
    found = torch.zeros(len(queries), 2, k, dtype=torch.float64, device=order.value_device)
    first = all_values(found, panels_of_first(order, len(queries), k, same_set))
    return Retrieved(first[:, 0].long().to(queries.device), first[:, 1])


def panels_of_first(
    order: Ranking, n: int, k: int, same_set: bool
) -> Iterator[tuple[slice, Float[Tensor, "r 2 k"]]]:
    """Rows and scores of the first k, a block of queries at a time; whole numbers below 2^53 are exact in float64."""
    for rows, scores, _ in score_panels(order, n):
        if same_set:
            scores.diagonal(rows.start).fill_(-torch.inf)
        columns = first_columns(scores, k)
        values = scores.gather(1, columns)
        both = (x.to(order.value_device).to(torch.float64) for x in (columns, values))
        yield rows, torch.stack([*both], 1)


def first_columns(scores: Float[Tensor, "r m"], k: int) -> Int[Tensor, "r k"]:
    """The columns of the k highest scores of every row, the smallest first among equal ones."""
    if k == 0:
        return scores.new_zeros(len(scores), 0, dtype=torch.long)
    values, columns = scores.topk(k, dim=1)
    columns = columns.sort(dim=1).values
    order = scores.gather(1, columns).sort(dim=1, descending=True, stable=True).indices
    columns = columns.gather(1, order)
    last = values[:, -1:]
    doubtful = ((scores >= last) | scores.isnan()).sum(1) > k  # equal ones were left out
    doubtful |= last[:, 0].isnan()
    if bool(doubtful.any()):
        whole = scores[doubtful].sort(dim=1, descending=True, stable=True).indices
        columns[doubtful] = whole[:, :k]
    return columns
