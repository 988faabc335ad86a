"""Scores of listed pairs in float64, rounded once, and how far products of matrices may be from them."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from hardneg.negatives import Ceiling
from hardneg.ops.comparison import Embeddings
from hardneg.ops.rounding import Rounding, bounds_under, rounding_of
from hardneg.similarities import Cosine, Dot, score_dtype, upcast

if TYPE_CHECKING:
    from jaxtyping import Float, Int

__all__ = ["exact_scores", "score_bounds", "under_positives"]

GATHERED = 1 << 21
"""How many coordinates are gathered at a time."""


def exact_scores(
    queries: Float[Tensor, "n d"],
    candidates: Float[Tensor, "m d"],
    places: Int[Tensor, "n c"],
    similarity: Any,
) -> Float[Tensor, "n c"]:
    """Scores of listed rows of the candidates; -inf for -1.

    Every pair is one sum over its coordinates, so its bits do not depend on what else is listed.
    """
    found = torch.full(places.shape, -torch.inf, dtype=score_dtype(queries), device=queries.device)
    if not places.shape[1] or not len(candidates):
        return found
    step = max(1, GATHERED // (places.shape[1] * queries.shape[1]))
    for start in range(0, len(queries), step):
        at = slice(start, start + step)
        rows = candidates[places[at].clamp(min=0)]
        found[at] = pair_scores(queries[at, None], rows, similarity).to(found)
    return found.masked_fill_(places < 0, -torch.inf)


def pair_scores(
    queries: Float[Tensor, "n 1 d"], candidates: Float[Tensor, "n c d"], similarity: Any
) -> Float[Tensor, "n c"]:
    """Scores in float64, on the CPU where the device has none."""
    if queries.device.type == "mps":
        queries, candidates = queries.cpu(), candidates.cpu()
    q, c = queries.double(), candidates.double()
    if type(similarity) is Cosine:
        q, c = unit(q), unit(c)
        return (q * c).sum(-1)
    found: Tensor = similarity.pairs(q, c)
    return found


def unit(x: Float[Tensor, "... d"]) -> Float[Tensor, "... d"]:
    """Rows divided by their length; a zero row stays zero."""
    largest = x.abs().amax(dim=-1, keepdim=True)
    scaled = x / torch.where(largest > 0, largest, 1.0)
    # a sum rather than a norm, which torch adds up in another order where there is one row
    length = (scaled * scaled).sum(-1, keepdim=True).sqrt()
    return scaled / torch.where(length > 0, length, 1.0)


def score_bounds(
    queries: Float[Tensor, "n d"], candidates: Float[Tensor, "m d"], similarity: Any
) -> Callable[[Tensor, int], Tensor]:
    """What moves a score of each query up (1) or down (-1) by the rounding of products with any candidate."""
    compared = Embeddings(queries, candidates, similarity)

    def magnitudes() -> Tensor:
        q, c = (upcast(x).square().sum(1) for x in (queries, candidates))
        if type(similarity) is Dot:
            return q.sqrt() * c.amax().sqrt()
        return 2 * (q + c.amax())

    def moved(scores: Tensor, sign: int) -> Tensor:
        return rounding_of(compared, scores, magnitudes).moved(scores, sign)

    return moved


def under_positives(
    ceiling: Ceiling,
    queries: Float[Tensor, "n d"],
    positives: Float[Tensor, "n d"],
    scores: Float[Tensor, "n"],
    similarity: Any,
) -> Float[Tensor, "n"]:
    """The bounds that a ceiling sets over one positive of each query, moved by the rounding of scores."""
    compared = Embeddings(queries, positives, similarity)

    def magnitudes() -> Tensor:
        q, c = (upcast(x).square().sum(1) for x in (queries, positives))
        return (q * c).sqrt() if type(similarity) is Dot else q + c

    rounding: Rounding = rounding_of(compared, scores, magnitudes)
    return bounds_under(ceiling, scores, rounding)
