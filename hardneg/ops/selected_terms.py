"""The term of a positive and the negatives selected for it, and its slopes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from hardneg.ops.requests import SelectedTerms
from hardneg.ops.scores import Scores, SelectedSums
from hardneg.penalties import softplus

if TYPE_CHECKING:
    from jaxtyping import Bool, Float, Int

__all__ = ["collect_terms", "listed_penalty", "term_slopes", "term_values", "terms_by_query"]

NOTHING = -1e30
"""The log of no negatives: far below every exponent, yet finite, so that differences stay defined."""


def exponents(
    terms: SelectedTerms, negatives: Float[Tensor, "t k"], there: Bool[Tensor, "t k"]
) -> Float[Tensor, "t k"]:
    """Scaled scores of the negatives, ``NOTHING`` where there is none."""
    assert terms.scale is not None
    return torch.where(there, negatives * terms.scale, NOTHING)


def logsumexp(z: Float[Tensor, "t k"]) -> Float[Tensor, "t"]:
    """Over each row; torch.logsumexp asks whether there are rows, which the compiler cannot know of listed pairs."""
    largest = z.detach().amax(1, keepdim=True)
    return (z - largest).exp().sum(1).log() + largest[:, 0]


def term_values(
    terms: SelectedTerms,
    positives: Float[Tensor, "t"],
    negatives: Float[Tensor, "t k"],
    there: Bool[Tensor, "t k"],
) -> tuple[Float[Tensor, "t"], Int[Tensor, "t"]]:
    """The term of each pair, and how many of its negatives gave a value above 0; 0 without negatives."""
    if terms.scale is None:
        assert terms.penalty is not None
        x = terms.margin - positives[:, None] + negatives
        values = torch.where(there, terms.penalty.value(x), 0.0)
        return values.sum(1), (values.detach() > 0).sum(1)
    valid = there[:, 0]
    x = logsumexp(exponents(terms, negatives, there)) - terms.scale * (positives - terms.margin)
    return softplus(torch.where(valid, x, NOTHING)), valid.long()


def term_slopes(
    terms: SelectedTerms,
    positives: Float[Tensor, "t"],
    negatives: Float[Tensor, "t k"],
    there: Bool[Tensor, "t k"],
    weights: Float[Tensor, "t"],
) -> tuple[Float[Tensor, "t"], Float[Tensor, "t k"], Float[Tensor, ""]]:
    """Gradients of the weighted sum of the terms by the positives' scores, the negatives', and the scale."""
    if terms.scale is None:
        assert terms.penalty is not None
        slope = terms.penalty.slope(terms.margin - positives[:, None] + negatives)
        slope = torch.where(there, slope, 0.0) * weights[:, None]
        return -slope.sum(1), slope, weights.new_zeros(())
    z, beyond = exponents(terms, negatives, there), positives - terms.margin
    lse = logsumexp(z)
    pull = (lse - terms.scale * beyond).sigmoid() * weights * there[:, 0]
    shares = (z - lse[:, None]).exp() * there
    by_scale = (pull * ((shares * negatives).sum(1) - beyond)).sum()
    return -terms.scale * pull, shares * (terms.scale * pull)[:, None], by_scale


def terms_by_query(found: SelectedSums, queries: Int[Tensor, "t"], n: int) -> SelectedSums:
    """Terms of pairs added up by query, of which there are n."""

    def added(x: Tensor) -> Tensor:
        return x.new_zeros(n).index_add(0, queries, x)

    valid = found.considered > 0
    positives = torch.where(valid, found.positives.detach(), 0.0)
    return SelectedSums(
        added(found.sums),
        added(found.counts),
        added(found.considered),
        added(positives),
        found.pairs,
    )


def collect_terms(
    terms: SelectedTerms,
    queries: Int[Tensor, "t"],
    positives: Float[Tensor, "t"],
    negatives: Float[Tensor, "t k"],
    there: Bool[Tensor, "t k"],
    n: int,
) -> SelectedSums:
    """The results from the scores of all pairs and of the negatives of each."""
    values, counts = term_values(terms, positives, negatives, there)
    considered = there.sum(1)
    pairs = considered.new_zeros(n).index_add(0, queries, (considered > 0).long())
    found = SelectedSums(values, counts, considered, positives.detach(), pairs)
    if not terms.per_pair:
        found = terms_by_query(found, queries, n)
    return found._replace(sums=found.sums.sum()) if terms.total else found


def listed_penalty(scores: Scores, terms: SelectedTerms) -> SelectedSums:
    """The terms of all pairs listed at once, by the other reductions of ``scores``; without a ceiling."""
    queries, positives = scores.positive_pairs()
    p = scores.pairs(queries, positives)
    chosen = scores.select(terms.search(scores.zeros())).rows
    own = scores.row_numbers()[:, None].expand_as(chosen)
    negatives = scores.pairs(own, chosen).index_select(0, queries)
    there = (chosen >= 0).index_select(0, queries)
    return collect_terms(terms, queries, p, negatives, there, scores.shape[0])
