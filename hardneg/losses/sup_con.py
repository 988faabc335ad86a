"""Supervised contrastive learning."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from hardneg.energies import Linear
from hardneg.losses.inputs import check_directions, labelled
from hardneg.losses.mining import seed_for, spread
from hardneg.losses.softmax import NOTHING, mean_positive, scale_of
from hardneg.losses.temperature import Temperature
from hardneg.losses.terms import Direction, Output, check_reduction, finish, in_directions
from hardneg.negatives import All, Negatives, RandomK, TopK, resolve_negatives
from hardneg.ops.backends import carried_out, check_backend
from hardneg.ops.description import Comparison
from hardneg.ops.executor import Executor
from hardneg.ops.requests import ExponentialTerms, PenaltyTerms, Search
from hardneg.penalties import Identity
from hardneg.selection import Selection
from hardneg.similarities import Similarity, resolve_similarity, working

if TYPE_CHECKING:
    from jaxtyping import Bool, Float, Int

__all__ = ["SupConLoss", "sup_con_loss"]

ACCEPTED = (All, TopK, RandomK)


def sup_con_loss(
    embeddings: Float[Tensor, "n d"],
    labels: Int[Tensor, "n"] | None = None,
    reference: Float[Tensor, "m d"] | None = None,
    reference_labels: Int[Tensor, "m"] | None = None,
    *,
    temperature: float | Float[Tensor, ""] = 0.1,
    negatives: Negatives | str = "all",
    similarity: Similarity | str = "cosine",
    positive_mask: Bool[Tensor, "n m"] | None = None,
    ignore: Bool[Tensor, "n m"] | None = None,
    same_set: bool = False,
    directions: str = "queries",
    reduction: str = "mean",
    return_stats: bool = False,
    backend: str | Executor = "auto",
) -> Output:
    """Mean over an anchor's positives of the cross-entropy against all others, positives included.

    The term of anchor i with positives P and chosen negatives N is
    ``log(sum over a in P + N of exp(s[i, a] / T)) - mean over p in P of s[i, p] / T``. Dense
    equivalent of the default::

        z = (normalize(embeddings) @ normalize(embeddings).T / temperature).fill_diagonal_(-inf)
        positive = (labels[:, None] == labels[None]).fill_diagonal_(False)
        mean = torch.where(positive, z, 0).sum(1) / positive.sum(1)
        loss = (z.logsumexp(1) - mean).mean()

    Anchors without a positive, or without a negative, are left out.

    Args:
        embeddings, labels, reference, reference_labels, positive_mask, ignore, same_set, directions,
            return_stats, backend: as in ``triplet_loss``.
        temperature: above 0; a scalar tensor may require a gradient (and gives
            NaN where it is not above 0).
        negatives: ``"all"``, ``TopK(k)`` or ``RandomK(k)``.
        similarity: by name, object or callable.
        reduction: ``"mean"`` over anchors, ``"sum"``, ``"mean_active"`` (the mean), ``"none"``: terms by anchor.

    Raises:
        ValueError, TypeError: naming the argument, what was expected, and what came.

    Source: Khosla et al., "Supervised Contrastive Learning", NeurIPS 2020 (L_out).

    Example:
        >>> x, labels = torch.randn(32, 16), torch.arange(32) // 4
        >>> sup_con_loss(x, labels).shape
        torch.Size([])
    """
    check_reduction(reduction, directions)
    check_directions(directions, reference)
    strategy = resolve_negatives(negatives, "sup_con_loss", ACCEPTED)
    comparison = labelled(
        embeddings,
        labels,
        reference,
        reference_labels,
        similarity,
        positive_mask,
        ignore,
        same_set,
    )
    executor, comparison = carried_out(backend, comparison)
    scale = scale_of(temperature, embeddings)

    def terms_of(compared: Comparison) -> Direction:
        return sup_con_terms(executor, compared, strategy, scale, return_stats)

    terms = in_directions(comparison, directions, terms_of)
    return finish(executor, comparison, terms, reduction, average=True, return_stats=return_stats)


def sup_con_terms(
    executor: Executor,
    comparison: Comparison,
    strategy: Negatives,
    scale: Float[Tensor, ""],
    statistics: bool,
) -> Direction:
    """The terms of every query."""
    negatives, _ = executor.admitted_counts(comparison, "negatives")
    positives, _ = executor.admitted_counts(comparison, "positives")
    valid = (negatives > 0) & (positives > 0)
    denominator, hardest = log_denominator(executor, comparison, strategy, scale, statistics)
    zero = working(comparison.queries).new_zeros(comparison.queries.shape[0])
    terms = PenaltyTerms(Identity(), zero, among="positives", scale=scale)
    sums = executor.penalty_sum(comparison, terms)
    values = torch.where(valid, denominator, 0.0) - sums.rows / positives.clamp(min=1)
    values = torch.where(valid, values, 0.0)
    with torch.no_grad():
        mean = mean_positive(executor, comparison, positives) if statistics else zero
    return Direction(values, valid, valid.long(), valid.long(), mean, hardest)


def log_denominator(
    executor: Executor,
    comparison: Comparison,
    strategy: Negatives,
    scale: Float[Tensor, ""],
    statistics: bool,
) -> tuple[Float[Tensor, "n"], Float[Tensor, "n"]]:
    """Log-sum-exp over positives and chosen negatives; and each query's hardest negative, if asked for."""
    selection = strategy.selection(comparison.queries.shape[1])
    if selection is None:
        if strategy.ceiling is not None:
            raise ValueError("sup_con_loss takes All() without a ceiling: use TopK(k)")
        terms = ExponentialTerms(Linear(), scale=scale, columns=False)
        negative = executor.logsumexp(comparison, terms)
        largest = torch.where(negative.row_maxima > -torch.inf, negative.row_maxima, 0.0)
        of_negatives, hardest = negative.rows, largest / scale.detach()
    else:
        if strategy.ceiling is not None or selection.fallback != "none":
            raise ValueError(f"sup_con_loss takes {type(strategy).__name__} without a ceiling")
        of_negatives, hardest = picked_negatives(executor, comparison, selection, scale, statistics)
    terms = ExponentialTerms(Linear(), "positives", scale, columns=False)
    of_positives = executor.logsumexp(comparison, terms)
    sides = torch.stack([of_positives.rows, of_negatives])
    return torch.where(sides > NOTHING, sides, NOTHING).logsumexp(0), hardest


def picked_negatives(
    executor: Executor,
    comparison: Comparison,
    selection: Selection,
    scale: Float[Tensor, ""],
    statistics: bool,
) -> tuple[Float[Tensor, "n"], Float[Tensor, "n"]]:
    """Log-sum-exp over the selected negatives; and the hardest of all, if asked for."""
    own = torch.arange(comparison.queries.shape[0], device=comparison.queries.device)
    seed = seed_for(selection, comparison)
    search = Search(selection, seed=seed, columns=False, hardest=statistics)
    found = executor.select(comparison, search)
    scores = executor.pair_scores(comparison, *spread(own, found.rows)).view(found.rows.shape)
    of_negatives = torch.where(found.rows >= 0, scores * scale, NOTHING).logsumexp(1)
    if not statistics:
        return of_negatives, working(comparison.queries).new_zeros(own.shape)
    with torch.no_grad():
        return of_negatives, executor.pair_scores(comparison, own, found.hardest_rows[:, 0])


class SupConLoss(nn.Module):
    """Supervised contrastive loss; ``loss(embeddings, labels)`` or with a reference.

    Choices are those of ``hardneg.functional.sup_con_loss``; temperature as in ``InfoNCELoss``.

    Example:
        >>> loss = SupConLoss(temperature=0.1)
        >>> value = loss(torch.randn(32, 16), torch.arange(32) // 4)
    """

    def __init__(
        self,
        temperature: float = 0.1,
        negatives: Negatives | str = "all",
        similarity: Similarity | str = "cosine",
        *,
        learnable_temperature: bool = False,
        max_scale: float = 100.0,
        directions: str = "queries",
        reduction: str = "mean",
        backend: str | Executor = "auto",
    ) -> None:
        super().__init__()
        check_reduction(reduction, directions)
        self.temperature = Temperature(temperature, learnable_temperature, max_scale)
        self.negatives = resolve_negatives(negatives, type(self).__name__, ACCEPTED)
        self.similarity = resolve_similarity(similarity)
        self.directions, self.reduction, self.backend = directions, reduction, backend
        check_backend(backend, self.similarity)

    def forward(
        self,
        embeddings: Float[Tensor, "n d"],
        labels: Int[Tensor, "n"] | None = None,
        reference: Float[Tensor, "m d"] | None = None,
        reference_labels: Int[Tensor, "m"] | None = None,
        *,
        positives: Bool[Tensor, "n m"] | None = None,
        ignore: Bool[Tensor, "n m"] | None = None,
        same_set: bool = False,
        negatives: Negatives | str | None = None,
        return_stats: bool = False,
    ) -> Output:
        """See ``hardneg.functional.sup_con_loss``; ``positives`` is its ``positive_mask``."""
        return sup_con_loss(
            embeddings,
            labels,
            reference,
            reference_labels,
            temperature=self.temperature(),
            negatives=self.negatives if negatives is None else negatives,
            similarity=self.similarity,
            positive_mask=positives,
            ignore=ignore,
            same_set=same_set,
            directions=self.directions,
            reduction=self.reduction,
            return_stats=return_stats,
            backend=self.backend,
        )

    def extra_repr(self) -> str:
        """The choices."""
        return f"negatives={self.negatives}, similarity={self.similarity}, reduction={self.reduction!r}"
