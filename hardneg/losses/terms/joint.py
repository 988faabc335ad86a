"""One softmax over negatives of three kinds: query and candidate, query and query, candidate and candidate."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from hardneg.losses.terms.reduction import Terms
from hardneg.losses.terms.softmax import EMPTY, from_logsumexp
from hardneg.losses.terms.windows import window_of_pairs
from hardneg.ops.backends import bind
from hardneg.ops.comparison import Comparison, Relation
from hardneg.ops.energies import Linear
from hardneg.ops.guide import Guide
from hardneg.ops.requests import ExponentialTerms
from hardneg.ops.scores import Backend, Scores

if TYPE_CHECKING:
    from jaxtyping import Float

    from hardneg.losses.call import Call

__all__ = ["joint_terms"]


def joint_terms(
    call: Call, backend: str | Backend, scale: Float[Tensor, ""], margin: float
) -> Terms:
    """Query i with candidate i against all three kinds, each below the strategy's ceiling over that positive."""
    positive = call.own_positive()
    p = call.scores.pairs(call.scores.row_numbers(), positive)
    window = window_of_pairs(call, positive, p)
    terms = ExponentialTerms(Linear(), scale=scale, window=window, columns=False)
    parts = []
    for scores in (call.scores, *within_sides(call.scores, backend)):
        found, (counts, _) = scores.logsumexp(terms), scores.counts("negatives")
        parts.append((found.rows, found.row_maxima, counts))
    sums, largest, counts = (torch.stack(x) for x in zip(*parts, strict=True))
    counts = torch.where(sums.detach() > -torch.inf, counts, 0).sum(0)
    counts = torch.where(positive >= 0, counts, 0)
    lse = torch.logsumexp(torch.where(sums > -torch.inf, sums, EMPTY), dim=0)
    return from_logsumexp(lse, largest.amax(0), counts, p, scale, margin)


def within_sides(scores: Scores, backend: str | Backend) -> Iterator[Scores]:
    """The queries among themselves, and their candidates with all candidates."""
    compared, relation, n = scores.comparison, scores.relation, scores.shape[0]
    guide, similarity = relation.guide, compared.similarity
    ids = relation.row_ids, relation.row_ids
    told = Guide(guide.rows, guide.rows, guide.bounds)
    sides = compared.queries, compared.queries
    pulls = compared.to_queries, compared.to_queries
    related = Relation(*ids, same_set=True, guide=told)
    yield bind(backend, Comparison(*sides, similarity, related, *pulls))
    column_ids = relation.column_ids
    ids = None if column_ids is None else column_ids[:n], column_ids
    told = Guide(first(guide.columns, n), guide.columns, guide.bounds)
    candidates = compared.candidates
    sides = candidates if len(candidates) == n else candidates[:n], candidates
    pulls = first(compared.to_candidates, n), compared.to_candidates
    related = Relation(*ids, same_set=True, guide=told)
    yield bind(backend, Comparison(*sides, similarity, related, *pulls))


def first(x: Tensor | None, n: int) -> Tensor | None:
    """The first rows; the tensor itself where it has no more."""
    return x if x is None or len(x) == n else x[:n]
